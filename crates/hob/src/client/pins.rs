//! The caller's pins in the daemon.

use std::time::Duration;

use bytes::Bytes;
use hob_api::pin::{Pin, PinDeleted, PinFields, PinList};
use hyper::Method;

use super::{Client, ClientError, REPLY_TIMEOUT, named};

const PATH: &str = "/hob/v1/pins";
/// Longest wait for a change to be on the disk: a slow card may be at a large snapshot first.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

impl Client {
    /// All of them, by name.
    pub(crate) async fn pins(&self) -> Result<Vec<Pin>, ClientError> {
        let list = self.call(Method::GET, PATH, Bytes::new(), REPLY_TIMEOUT);
        list.await.map(|list: PinList| list.data)
    }

    /// Pins something.
    pub(crate) async fn put_pin(&self, name: &str, fields: &PinFields) -> Result<Pin, ClientError> {
        let body = self.encode(fields)?;
        self.call(Method::PUT, &named(PATH, name), body, CHANGE_TIMEOUT)
            .await
    }

    /// Unpins it.
    pub(crate) async fn delete_pin(&self, name: &str) -> Result<PinDeleted, ClientError> {
        self.call(
            Method::DELETE,
            &named(PATH, name),
            Bytes::new(),
            CHANGE_TIMEOUT,
        )
        .await
    }
}
