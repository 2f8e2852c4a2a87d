//! The address that follows the primary: connections to it lead to the server that it was turned to last.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::process::free_addresses;

/// See the module. It has a thread of its own, so that it goes on while a test waits for a program.
pub struct Switch {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
}

struct State {
    to: SocketAddr,
    connections: Vec<AbortHandle>,
}

impl Switch {
    pub fn start(to: SocketAddr) -> Self {
        let [address] = free_addresses();
        let state = Arc::new(Mutex::new(State { to, connections: Vec::new() }));
        let (end, ended) = tokio::sync::oneshot::channel();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await.expect("a port");
                ready.send(()).expect("someone waits");
                tokio::select! {
                    () = serve(&listener, &shared) => {}
                    _ = ended => {}
                }
            });
        });
        started.recv().expect("it listens");
        Self { address, state, end: Some(end) }
    }

    /// Cuts all connections and leads new ones to `to`.
    pub fn turn(&self, to: SocketAddr) {
        let mut state = self.state.lock();
        state.to = to;
        state.connections.drain(..).for_each(|connection| connection.abort());
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // At its end the runtime drops what it carries.
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }
}

async fn serve(listener: &TcpListener, state: &Mutex<State>) {
    loop {
        let Ok((mut here, _)) = listener.accept().await else { continue };
        let mut state = state.lock();
        let to = state.to;
        let carried = tokio::spawn(async move {
            if let Ok(mut there) = TcpStream::connect(to).await {
                let _ = (here.set_nodelay(true), there.set_nodelay(true));
                let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
            }
        });
        state.connections.retain(|connection| !connection.is_finished());
        state.connections.push(carried.abort_handle());
    }
}
