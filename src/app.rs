//! Constructs and connects everything: the only place that knows all stages. Start, drain, stop.
//!
//! Called by `cli::serve` and by tests, inside a running actix system. Order of a start: operations listener (so that
//! readiness can say "starting"), store (recovery), receiving, HTTP, then the SMTP listeners. A stop may begin with
//! [`App::drain`], while which everything goes on and whoever sends clients here learns to send them elsewhere; then the
//! ports are closed, what was promised is finished, sockets are told 1012, the store is flushed.

mod cluster;
mod http;
mod status;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix::Arbiter;
use anyhow::Context as _;
use futures_util::future::{AbortHandle, abortable};

use self::cluster::Cluster;
use self::http::{Content, Places, Web};
use self::status::Status;
use crate::cluster::broker::Broker;
use crate::cluster::limits::Limits as ClientLimits;
use crate::config::Config;
use crate::inbound::Inbound;
use crate::inbound::announcer::Announcer;
use crate::inbound::config::{BareLineEnds, SmtpConfig};
use crate::inbound::gate::Gate;
use crate::inbound::listener::{Listener, Sessions};
use crate::inbound::policy::Policy;
use crate::inbound::session::Site;
use crate::ops::{self, Ops, Phase};
use crate::smtp::data::LineEnds;
use crate::smtp::limits::Limits;
use crate::startup;
use crate::store::{Faults, Outlet, Store};
use crate::telemetry::Recorder;
use crate::web::views::SmtpAddress;

/// How often singletons that died are looked for.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How long a stop waits for what the bus still has.
const BUS_LIMIT: Duration = Duration::from_secs(1);

/// A running server.
pub struct App {
    /// Where it listens, with the ports that were given for port 0.
    pub smtp: Vec<SocketAddr>,
    pub http: SocketAddr,
    pub ops: SocketAddr,
    pub store: Store,
    pub inbound: Inbound,
    /// The queue between SMTP and the store, where there is one.
    pub broker: Option<Arc<Broker>>,
    status: Arc<Status>,
    sessions: Sessions,
    web: Web,
    ops_server: Ops,
    arbiters: Vec<Arbiter>,
    cluster: Cluster,
    checks: [AbortHandle; 2],
    stop_within: Duration,
    drain: Duration,
    draining_since: OnceLock<Instant>,
}

/// What a start has before it opens the store.
struct Begun {
    recorder: Recorder,
    smtp: Vec<Listener>,
    http: std::net::TcpListener,
    gate: Arc<Gate>,
    announcer: Announcer,
    cluster: Cluster,
    status: Arc<Status>,
    ops_server: Ops,
}

/// What differs between a server and a test of one.
#[derive(Clone, Default)]
pub struct Extras {
    /// The process's recorder, when it has one already.
    pub recorder: Option<Recorder>,
    pub faults: Faults,
}

impl App {
    /// Starts everything; returns when mail is received.
    ///
    /// # Errors
    /// One line for the operator: a taken port, an unwritable or locked directory, a database that does not open.
    pub async fn start(config: Config, extras: Extras) -> anyhow::Result<Self> {
        startup::raise_descriptor_limit();
        let recorder = extras.recorder.map_or_else(Recorder::install, Ok)?;
        let smtp = bind_smtp(&config.smtp)?;
        let http = startup::listen(config.http.listen.0, "HTTP", "--http")?;
        let gate = gate(&config.smtp);
        let announcer = Announcer::default();
        let cluster = Cluster::start(&config.redis, &announcer)?;
        let ops_listener = startup::listen(config.ops.listen.0, "operations", "--ops")?;
        let process = status::process(&config);
        let status =
            Arc::new(Status::new(process, Arc::clone(&gate), Arc::clone(&announcer.map), cluster.redis.clone()));
        let ops_server =
            ops::start(ops_listener, Arc::clone(&status) as _, recorder.clone(), config.http.allowed_hosts.clone())?;

        let store = Store::open(&config.store(), cluster.mouth(), extras.faults).await?;
        let begun = Begun { recorder, smtp, http, gate, announcer, cluster, status, ops_server };
        let started = Self::on(config, begun, store.clone()).await;
        if started.is_err() {
            // What else has it ends after its runtime, where its connections could not be closed any more.
            store.close().await;
        }
        started
    }

    /// The second half of a start: what stands on the open store.
    async fn on(config: Config, begun: Begun, store: Store) -> anyhow::Result<Self> {
        let Begun { recorder, smtp, http, gate, announcer, cluster, status, ops_server } = begun;
        status.opened(store.clone());
        let reconciles = cluster.opened(&store, &config.redis);
        store.start_rounds();
        let arbiters: Vec<_> = (0..config.runtime.arbiters.get()).map(|_| Arbiter::new()).collect();
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let broker = broker(&config, &store).await?;
        if let Some(broker) = &broker {
            status.queued(Arc::clone(broker));
        }
        let policy = Policy::new(&config.mailboxes, &config.domains).queued(broker.is_some());
        let channels = cluster.bus.channels();
        let inbound = Inbound::start(store.clone(), &announcer, &channels, policy, &config.mailboxes, handles.clone());
        let smtp_addresses: Vec<_> = smtp.iter().map(Listener::address).collect();
        let limits = cluster.limits(&config);
        let content = Content {
            store: store.clone(),
            inbound: inbound.clone(),
            limits: limits.clone(),
            secret: store.secret().await?,
            smtp: shown_smtp(&config.smtp, &smtp_addresses),
        };
        let web = Web::start(http, &config.http, &config.sockets, places(&config), content)?;
        let outlet = outlet(broker.as_deref(), &store);
        let site = Arc::new(site(&config.smtp, gate, &inbound, (outlet, limits)));
        let sessions = Sessions::default();
        for listener in smtp {
            listener.serve(&site, &sessions, &handles)?;
        }
        status.set(Phase::Running);
        let ops = ops_server.addr;
        let http = web.address;
        let checks = watch_over(inbound.clone(), recorder);
        let (stop_within, drain) = (config.runtime.stop_within.0, config.runtime.drain_time());
        let smtp = smtp_addresses;
        let draining_since = OnceLock::new();
        Ok(Self {
            smtp,
            http,
            ops,
            store,
            inbound,
            broker,
            status,
            sessions,
            web,
            ops_server,
            arbiters,
            cluster,
            checks: [checks, reconciles],
            stop_within,
            drain,
            draining_since,
        })
    }

    /// Says on all sides that this server is about to stop and goes on serving for `[runtime] drain`: not ready at once,
    /// and each HTTP answer is the last of its connection.
    pub async fn drain(&self) {
        self.begin_to_leave();
        tokio::time::sleep(self.drain).await;
    }

    fn begin_to_leave(&self) -> Instant {
        self.status.set(Phase::Draining);
        self.web.leave();
        *self.draining_since.get_or_init(Instant::now)
    }

    /// Stops: closes the ports, finishes what was promised, flushes. Returns within `[runtime] stop_within`, of which a
    /// drain is a part.
    pub async fn stop(self) {
        let began = self.begin_to_leave();
        let left = || self.stop_within.saturating_sub(began.elapsed());
        let limit = left() / 3;
        let (ended, ()) = tokio::join!(self.sessions.drain(limit), self.web.close_port(limit));
        if !ended {
            tracing::warn!("some SMTP sessions did not end in time and are cut off");
        }
        // Now that everything is stored that was promised, sockets hear of it before they are closed.
        self.web.stop(left() / 3 * 2).await;
        self.checks.iter().for_each(AbortHandle::abort);
        if let Some(broker) = &self.broker {
            broker.stop(left() / 2).await;
        }
        if tokio::time::timeout(left(), self.store.close()).await.is_err() {
            tracing::error!("the store did not close in time; what was answered 250 is durable all the same");
        }
        // Once the store is closed nothing more is committed; the others hear of the last of it.
        if tokio::time::timeout(left().min(BUS_LIMIT), self.cluster.bus.close()).await.is_err() {
            tracing::warn!("the bus did not take everything in time; other nodes find it in the database");
        }
        for arbiter in self.arbiters {
            arbiter.stop();
        }
        self.ops_server.stop().await;
        tracing::info!(duration_ms = began.elapsed().as_millis(), "stopped");
    }
}

/// Looks after singletons that died, and after the recorder, until aborted.
fn watch_over(inbound: Inbound, recorder: Recorder) -> AbortHandle {
    let (upkeep, handle) = abortable(async move {
        actix::spawn(recorder.upkeep());
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            inbound.check();
        }
    });
    actix::spawn(upkeep);
    handle
}

async fn broker(config: &Config, store: &Store) -> anyhow::Result<Option<Arc<Broker>>> {
    if !config.broker.is_used() {
        return Ok(None);
    }
    let broker = Broker::start(config.broker.clone(), store.clone()).await.context("[broker]")?;
    Ok(Some(Arc::new(broker)))
}

/// Where whole deliveries go.
fn outlet(broker: Option<&Broker>, store: &Store) -> Arc<dyn Outlet> {
    broker.map_or_else(|| Arc::new(store.clone()) as Arc<dyn Outlet>, Broker::outlet)
}

/// Where users are told to send.
fn shown_smtp(config: &SmtpConfig, listeners: &[SocketAddr]) -> Vec<SmtpAddress> {
    if let Some((host, port)) = config.public() {
        return vec![SmtpAddress { host, port }];
    }
    listeners.iter().map(|at| SmtpAddress { host: at.ip().to_string(), port: at.port() }).collect()
}

fn bind_smtp(config: &SmtpConfig) -> anyhow::Result<Vec<Listener>> {
    let bind = |url: &String| {
        let address = SmtpConfig::address(url).context("[smtp] listen")?;
        Ok(Listener::new(startup::listen(address, "SMTP", "--smtp")?)?)
    };
    config.listen.iter().map(bind).collect()
}

/// Said at start: less than the settings ask for is no error, but explains refusals later.
fn places(config: &Config) -> Places {
    let descriptors = startup::descriptor_limit();
    let places = Places::new(&config.http, descriptors, config.smtp.max_sessions);
    tracing::info!(
        max_connections = places.in_all,
        max_connections_per_client = places.for_client,
        open_files = descriptors,
        "HTTP connections at one time, as the limit of open files allows"
    );
    places
}

fn gate(config: &SmtpConfig) -> Arc<Gate> {
    Gate::new(config.into())
}

fn site(
    config: &SmtpConfig,
    gate: Arc<Gate>,
    inbound: &Inbound,
    (outlet, client_limits): (Arc<dyn Outlet>, ClientLimits),
) -> Site {
    let limits = Limits {
        max_message_size: config.max_message_size.as_usize(),
        max_recipients: config.max_recipients,
        max_errors: config.max_errors,
        line_ends: match config.bare_line_ends {
            BareLineEnds::Refuse => LineEnds::Refuse,
            BareLineEnds::Normalise => LineEnds::Normalise,
        },
        ..Limits::default()
    };
    Site {
        door: Arc::new(inbound.door(config.commit_timeout.0, outlet)),
        gate,
        limits: Arc::new(limits),
        client_limits,
        host_name: host_name(config).into(),
        read_timeout: config.read_timeout.0,
        write_timeout: config.write_timeout.0,
        data_timeout: config.data_timeout.0,
        min_data_rate: config.min_data_rate.0,
        proxies: config.proxy_protocol_from.clone().into(),
        proxy_timeout: config.proxy_protocol_timeout.0,
    }
}

fn host_name(config: &SmtpConfig) -> String {
    if !config.hostname.is_empty() {
        return config.hostname.clone();
    }
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    if name.is_empty() { "localhost".into() } else { name.into_owned() }
}
