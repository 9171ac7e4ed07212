//! Typed questions to the daemon.

use std::time::Duration;

use hob_api::decision::{DecisionRequest, Decisions};
use hyper::Method;

use super::{Client, ClientError, REPLY_TIMEOUT};

impl Client {
    /// `POST /v1/systemone`: returns when all is answered; the daemon bounds how long that takes.
    pub(crate) async fn decide(&self, request: &DecisionRequest) -> Result<Decisions, ClientError> {
        let body = self.encode(request)?;
        let exchange = self
            .send(Method::POST, "/v1/systemone", body, Duration::MAX)
            .await?;
        let exchange = self.accepted(exchange).await?;
        let reply = tokio::time::timeout(REPLY_TIMEOUT, self.collect(exchange)).await;
        let reply = reply.map_err(|_| ClientError::Unresponsive {
            after: REPLY_TIMEOUT,
        })??;
        serde_json::from_slice(&reply).map_err(|error| self.protocol(error.to_string()))
    }
}
