//! The receiver that spans go to, with headers that may be rotated while it runs.

use std::sync::{Arc, Mutex, PoisonError};

use spanhook_core::secret::Secrets;
use spanhook_export::{ExportSettings, Exporter, ExporterError, HEADERS};
use thiserror::Error;

use crate::{
    live::{self, Live, LiveError, Source},
    settings::{SettingsError, Vars},
};

/// Why nothing can be exported.
#[derive(Debug, Error)]
pub enum TargetError {
    /// A variable is missing or wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The headers can't be read from where they are kept.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The client can't be made.
    #[error(transparent)]
    Exporter(#[from] ExporterError),
}

/// The receiver that spans go to. Its headers may be a secret that is kept elsewhere and rotated.
#[derive(Debug)]
pub struct Target {
    vars: Vars,
    headers: Option<Live<Secrets>>,
    current: Mutex<(Arc<Secrets>, Arc<Exporter>)>,
    /// Where it is.
    pub settings: ExportSettings,
}

impl Target {
    /// Reads the settings; `None` without an endpoint.
    pub async fn open(vars: &Vars) -> Result<Option<Self>, TargetError> {
        let source = Source::parse(vars, HEADERS.name);
        let (headers, secrets) = if source.is_elsewhere() {
            let none = Secrets::default();
            let headers = Live::open(&source, &HEADERS, live::headers, none).await?;
            let secrets = headers.get().await;
            (Some(headers), secrets)
        } else {
            (None, Arc::default())
        };
        let Some(settings) = Self::settings(vars, &secrets)? else { return Ok(None) };
        let current = Mutex::new((secrets, Arc::new(Exporter::new(&settings)?)));
        Ok(Some(Self { vars: vars.clone(), headers, current, settings }))
    }

    /// Each live value is a header or a list of them.
    fn settings(vars: &Vars, headers: &Secrets) -> Result<Option<ExportSettings>, SettingsError> {
        if headers.is_empty() {
            return ExportSettings::parse(vars);
        }
        let mut vars = vars.clone();
        let headers: Vec<_> = headers.expose().map(String::from_utf8_lossy).collect();
        vars.insert(HEADERS.name.to_owned(), headers.join(","));
        ExportSettings::parse(&vars)
    }

    /// The exporter, made anew when its headers changed.
    pub async fn exporter(&self) -> Arc<Exporter> {
        let fresh = match &self.headers {
            Some(headers) => Some(headers.get().await),
            None => None,
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fresh) = fresh.filter(|it| !Arc::ptr_eq(it, &current.0)) {
            let made = Self::settings(&self.vars, &fresh).ok().flatten();
            if let Some(Ok(exporter)) = made.as_ref().map(Exporter::new) {
                *current = (fresh, Arc::new(exporter));
            } else {
                tracing::error!("the new {} can't be used; the old stay", HEADERS.name);
            }
        }
        Arc::clone(&current.1)
    }
}
