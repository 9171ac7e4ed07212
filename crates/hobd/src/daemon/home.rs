//! Homes: what users register of them, and the reading of what is said there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hob_api::home::{HomeAnswer, Reader};
use hob_api::provider::{Provider, ProviderFields, TargetsPatch};
use hob_api::{ApiError, ErrorCode};
use tokio::task::spawn_blocking;

use super::DaemonHandle;
use crate::home;
use crate::hub::Hub;
use crate::providers::{ProviderName, Providers};
use crate::request::ValidHome;

impl DaemonHandle {
    /// What homes can do, as users registered it.
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Puts the definition that `parse` reads in force, in place of what had its name before; `hub`
    /// makes its calls.
    ///
    /// # Errors
    /// Those of `parse` and of [`Providers::put`]; `busy` if the user, or all, ask for too much at once.
    pub async fn put_provider(
        &self,
        uid: u32,
        name: ProviderName,
        parse: impl FnOnce() -> Result<ProviderFields, ApiError> + Send + 'static,
        hub: Option<Arc<Hub>>,
    ) -> Result<Provider, ApiError> {
        let providers = self.providers.clone();
        let put = move || providers.put(uid, name, parse()?, hub);
        self.computed(uid, put).await
    }

    /// Changes the targets of a provider as `parse` reads.
    ///
    /// # Errors
    /// Those of `parse` and of [`Providers::patch`]; `busy` as of [`DaemonHandle::put_provider`].
    pub async fn patch_provider(
        &self,
        uid: u32,
        name: ProviderName,
        parse: impl FnOnce() -> Result<TargetsPatch, ApiError> + Send + 'static,
    ) -> Result<Provider, ApiError> {
        let providers = self.providers.clone();
        let patch = move || providers.patch(uid, &name, parse()?);
        self.computed(uid, patch).await
    }

    /// What is meant by what a user said. Nothing is done about it.
    ///
    /// # Errors
    /// `not_found` if the user has no such provider, or none at all; `busy` as of
    /// [`DaemonHandle::put_provider`]; if the model is to read it, those
    /// of [`DaemonHandle::submit`], and what ends its answer.
    pub async fn interpret(&self, uid: u32, said: ValidHome) -> Result<HomeAnswer, ApiError> {
        let entries = match &said.provider {
            Some(name) => vec![self.providers.get(uid, name)?],
            None => self.providers.all(uid),
        };
        if entries.is_empty() {
            let message = "you have registered no provider";
            return Err(ApiError::new(ErrorCode::NotFound, message).hint(
                "register what your home can do (`hob providers add`, or a hub); hobd forgets it when it ends",
            ));
        }
        if said.reader == Reader::Model && !home::is_too_long(&said.text) {
            return self.decode(uid, entries, said).await;
        }
        self.computed(uid, move || {
            let started = Instant::now();
            let mut answer = home::answer(&entries, &said.text, &said.options)?;
            answer.read_us = micros(started.elapsed());
            Ok(answer)
        })
        .await
    }

    /// What takes a processor for some milliseconds, beside the thread on which everybody is answered.
    /// One such thing is done at once, and users take turns; who goes away while it waits is not
    /// computed for.
    ///
    /// # Errors
    /// Those of `work`, and `busy` if too many wait.
    pub(super) async fn computed<T: Send + 'static>(
        &self,
        uid: u32,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = self.turns.take(uid).await?;
        let placed = move || {
            let _turn = turn;
            work()
        };
        spawn_blocking(placed).await.unwrap_or_else(|_| {
            Err(ApiError::new(ErrorCode::Internal, "hobd failed at this")
                .hint("hobd's log may tell more"))
        })
    }
}

/// A time in microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
