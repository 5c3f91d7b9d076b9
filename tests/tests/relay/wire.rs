//! A connection to the API server that can be cut.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

pub(crate) struct Wire {
    pub(crate) port: u16,
    to: SocketAddr,
    /// None while it is cut.
    carrier: Option<JoinHandle<()>>,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let mut wire = Self { port: 0, to: ([127, 0, 0, 1], port).into(), carrier: None };
        wire.mend().await;
        wire
    }

    pub(crate) async fn mend(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let to = self.to;
        self.carrier = Some(tokio::spawn(async move {
            // Ends with this task.
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        }));
    }

    /// Closes all connections and refuses new ones.
    pub(crate) async fn cut(&mut self) {
        let carrier = self.carrier.take().unwrap();
        carrier.abort();
        let _ = carrier.await;
    }
}
