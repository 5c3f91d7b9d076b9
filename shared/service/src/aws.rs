//! The AWS configuration, loaded once for all clients: its region, credentials and connections.
//!
//! Loading reads files and sets up TLS, which a cold start would otherwise pay for each document and
//! secret again.

use aws_config::SdkConfig;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

/// A configuration that is loaded when it is first needed.
#[derive(Debug)]
pub struct Aws {
    load: fn() -> BoxFuture<'static, SdkConfig>,
    config: OnceCell<SdkConfig>,
}

/// That of this process, from its environment.
pub static AWS: Aws = Aws::new(|| Box::pin(aws_config::load_from_env()));

impl Aws {
    /// Nothing is loaded yet.
    #[must_use]
    pub const fn new(load: fn() -> BoxFuture<'static, SdkConfig>) -> Self {
        Self { load, config: OnceCell::const_new() }
    }

    /// What every client is made with.
    pub async fn config(&self) -> &SdkConfig {
        self.config.get_or_init(self.load).await
    }
}
