//! `mailroom sink`: an SMTP receiver for testing senders, built on `mailin-embedded`.
//!
//! Not the server of `serve`: that library answers as it likes, and what it cannot do is printed by `--help`. Messages are
//! thrown away, or written a file each; nothing is synced.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use mailin_embedded::response::{INTERNAL_ERROR, OK};
use mailin_embedded::{Handler, Response, Server, SslConfig};

use crate::settings::Listen;

const LIMITS: &str = "\
What this sink does not do (it is for testing senders, `mailroom serve` is the real server): it answers 500 to \
MAIL FROM:<> and to SIZE=, so bounces cannot be sent to it; it reads lines of any length; it ends a message at LF \".\" \
CRLF as well; it gives no greeting to clients beyond its threads until one is free; it offers no STARTTLS.";

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = LIMITS)]
pub struct Options {
    /// Where to listen; a port alone is one of 127.0.0.1
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2526")]
    listen: Listen,
    /// Keep every message as a file here instead of throwing it away
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Sessions at once: one thread each
    #[arg(long, value_name = "N", default_value_t = 64)]
    threads: u32,
    /// Print a line for each message
    #[arg(long)]
    verbose: bool,
}

/// Receives until killed; prints a rate each second in which something came.
///
/// # Errors
/// The port is taken, or the directory cannot be made.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(directory) = &options.directory {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("the directory {} cannot be made", directory.display()))?;
    }
    let listener = crate::startup::listen(options.listen.0, "the sink", "--listen")?;
    listener.set_nonblocking(false)?;
    let addr = listener.local_addr()?;
    let totals = Arc::new(Totals::default());
    let session = Session {
        totals: Arc::clone(&totals),
        directory: options.directory.clone().map(Arc::from),
        verbose: options.verbose,
        from: String::new(),
        recipients: Vec::new(),
        bytes: 0,
        file: None,
    };
    say(&format!("sink: receiving on {addr} with {} threads; stop it with Ctrl-C", options.threads));
    thread::spawn(move || report(&totals));
    let mut server = Server::new(session);
    server.with_name("sink.mailroom.test").with_num_threads(options.threads).with_tcp_listener(listener);
    server.with_ssl(SslConfig::None).map_err(|error| anyhow!("{error}"))?;
    server.serve().map_err(|error| anyhow!("the sink ended: {error}"))
}

#[derive(Default)]
struct Totals {
    files: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// One a connection; the library clones the first.
struct Session {
    totals: Arc<Totals>,
    directory: Option<Arc<Path>>,
    verbose: bool,
    from: String,
    recipients: Vec<String>,
    bytes: u64,
    file: Option<BufWriter<File>>,
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Self {
            totals: Arc::clone(&self.totals),
            directory: self.directory.clone(),
            verbose: self.verbose,
            from: String::new(),
            recipients: Vec::new(),
            bytes: 0,
            file: None,
        }
    }
}

impl Handler for Session {
    fn mail(&mut self, _ip: IpAddr, _domain: &str, from: &str) -> Response {
        from.clone_into(&mut self.from);
        self.recipients.clear();
        OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        self.recipients.push(to.to_owned());
        OK
    }

    fn data_start(&mut self, _domain: &str, _from: &str, _is8bit: bool, _to: &[String]) -> Response {
        self.bytes = 0;
        self.file = None;
        match self.open() {
            Ok(file) => self.file = file,
            Err(error) => {
                say(&format!("sink: a message cannot be kept: {error}"));
                return INTERNAL_ERROR;
            }
        }
        OK
    }

    fn data(&mut self, buffer: &[u8]) -> io::Result<()> {
        self.bytes += buffer.len() as u64;
        match &mut self.file {
            Some(file) => file.write_all(buffer),
            None => Ok(()),
        }
    }

    fn data_end(&mut self) -> Response {
        if let Some(Err(error)) = self.file.take().map(|mut file| file.flush()) {
            say(&format!("sink: a message cannot be kept: {error}"));
            return INTERNAL_ERROR;
        }
        self.totals.messages.fetch_add(1, Ordering::Relaxed);
        self.totals.bytes.fetch_add(self.bytes, Ordering::Relaxed);
        if self.verbose {
            say(&format!("{} bytes from <{}> to {}", self.bytes, self.from, self.recipients.join(", ")));
        }
        OK
    }
}

impl Session {
    fn open(&self) -> io::Result<Option<BufWriter<File>>> {
        let Some(directory) = &self.directory else { return Ok(None) };
        let number = self.totals.files.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}.eml", crate::clock::now_micros());
        File::create_new(directory.join(name)).map(BufWriter::new).map(Some)
    }
}

fn report(totals: &Totals) {
    let mut before = 0;
    loop {
        thread::sleep(Duration::from_secs(1));
        let messages = totals.messages.load(Ordering::Relaxed);
        if messages != before {
            let bytes = totals.bytes.load(Ordering::Relaxed);
            say(&format!("sink: {messages} messages ({}/s), {bytes} bytes", messages - before));
        }
        before = messages;
    }
}

fn say(line: &str) {
    println!("{line}");
}
