//! Measuring the board that the daemon runs on.

use std::time::Duration;

use bytes::Bytes;
use hob_api::tuning::{TuneEvent, TuningReply};
use hyper::Method;

use super::{Client, ClientError, Exchange, REPLY_TIMEOUT};
use crate::lines::LineBuffer;

const PATH: &str = "/hob/v1/tuning";
/// Longest wait for what was measured to be forgotten: a slow disk.
const FORGET_TIMEOUT: Duration = Duration::from_secs(60);

/// A measurement as it goes on. Dropping it ends the measurement; what was tried counts.
#[derive(Debug)]
pub(crate) struct Measurement {
    exchange: Exchange,
    lines: LineBuffer,
}

impl Client {
    /// Begins to measure.
    pub(crate) async fn tune(&self) -> Result<Measurement, ClientError> {
        let begun = self.send(Method::POST, PATH, Bytes::new(), REPLY_TIMEOUT);
        Ok(Measurement {
            exchange: self.accepted(begun.await?).await?,
            lines: LineBuffer::default(),
        })
    }

    /// What was measured.
    pub(crate) async fn tuning(&self) -> Result<TuningReply, ClientError> {
        self.call(Method::GET, PATH, Bytes::new(), REPLY_TIMEOUT)
            .await
    }

    /// Forgets what was measured.
    pub(crate) async fn forget_tuning(&self) -> Result<TuningReply, ClientError> {
        self.call(Method::DELETE, PATH, Bytes::new(), FORGET_TIMEOUT)
            .await
    }
}

impl Measurement {
    /// The next record.
    ///
    /// # Errors
    /// [`ClientError::Cut`] if the stream ends, or what broke it.
    pub(crate) async fn next(&mut self) -> Result<TuneEvent, ClientError> {
        loop {
            if let Some(line) = self.lines.next_line().map_err(|_| ClientError::Cut)? {
                return serde_json::from_slice(line).map_err(|_| ClientError::Cut);
            }
            self.exchange.read_on(&mut self.lines).await?;
        }
    }
}
