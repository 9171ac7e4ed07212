//! What the caller's home can do, and what is said in it.

use std::time::Duration;

use bytes::Bytes;
use hob_api::home::{HomeAnswer, HomeRequest};
use hob_api::provider::{Provider, ProviderDeleted, ProviderList};
use hyper::Method;

use super::{Client, ClientError, REPLY_TIMEOUT, named};

const PROVIDERS: &str = "/hob/v1/providers";
/// Longest wait for a provider's words to be read: a thousand targets on a slow board.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for an utterance to be read: a model has two minutes for it.
const READ_TIMEOUT: Duration = Duration::from_secs(130);

impl Client {
    /// All of them, by name.
    pub(crate) async fn providers(&self) -> Result<Vec<Provider>, ClientError> {
        let list = self.call(Method::GET, PROVIDERS, Bytes::new(), REPLY_TIMEOUT);
        list.await.map(|list: ProviderList| list.data)
    }

    /// One with its tools and targets.
    pub(crate) async fn provider(&self, name: &str) -> Result<Provider, ClientError> {
        self.call(
            Method::GET,
            &named(PROVIDERS, name),
            Bytes::new(),
            REPLY_TIMEOUT,
        )
        .await
    }

    /// Registers one, given as JSON.
    pub(crate) async fn put_provider(
        &self,
        name: &str,
        definition: Bytes,
    ) -> Result<Provider, ClientError> {
        self.call(
            Method::PUT,
            &named(PROVIDERS, name),
            definition,
            REGISTER_TIMEOUT,
        )
        .await
    }

    /// Unregisters it.
    pub(crate) async fn delete_provider(&self, name: &str) -> Result<ProviderDeleted, ClientError> {
        self.call(
            Method::DELETE,
            &named(PROVIDERS, name),
            Bytes::new(),
            REPLY_TIMEOUT,
        )
        .await
    }

    /// What is meant by what somebody said, and what was done about it if it is to be. A person may
    /// have to confirm that, and the daemon bounds how long it takes.
    pub(crate) async fn home(&self, request: &HomeRequest) -> Result<HomeAnswer, ClientError> {
        let body = self.encode(request)?;
        let wait = if request.execute {
            Duration::MAX
        } else {
            READ_TIMEOUT
        };
        self.call(Method::POST, "/hob/v1/home", body, wait).await
    }
}
