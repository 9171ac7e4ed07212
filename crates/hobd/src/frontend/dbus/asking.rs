//! From read arguments to an answer: what the main object and conversations have in common.

use hob_api::{ApiError, ErrorCode};
use zbus::message::Header;
use zbus::object_server::ResponseDispatchNotifier;
use zbus::{Connection, OwnedObjectPath};

use super::Front;
use super::delivery::{Descriptor, Sink, deliver};
use super::failure::{Failure, without_nul};
use super::options::Arguments;
use super::request::{Details, Published, Request, completed_details};
use crate::answer::Answer;
use crate::request::{Caller, ValidFulfilment, ValidRequest};

/// The file descriptor that the caller reads, and word of when it was sent.
pub(super) type ReaderEnd = ResponseDispatchNotifier<zbus::OwnedFd>;

impl Front {
    /// A request with one reply, at the end.
    pub(super) async fn ask(
        &self,
        arguments: Arguments,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<(String, Details), Failure> {
        let (answer, request) = self.begin(arguments, header, connection).await?;
        let mut sink = Sink::Reply(String::new());
        let ending = deliver(answer, &mut sink, request.cancel(), request.progress()).await;
        request.remove().await;
        let completed = ending?;
        let reply = match sink {
            Sink::Reply(reply) => without_nul(reply),
            Sink::Descriptor(_) => String::new(),
        };
        Ok((reply, completed_details(&completed, &request.path())))
    }

    /// From read arguments to a request under way.
    async fn begin(
        &self,
        arguments: Arguments,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<(Answer, Published), ApiError> {
        let sender = super::sender(header)?;
        let place = self.callers.enter(&sender, arguments.handle_token)?;
        // From here on the caller's leaving is noticed, so the order of these two is what
        // guarantees that no request outlives its caller.
        let uid = super::uid_of(connection, &sender).await?;
        let settings = &self.settings;
        let request = ValidRequest::chat(
            arguments.chat,
            Caller { uid },
            &settings.sampling,
            &settings.limits,
        )?;
        let answered = async {
            match arguments.home {
                None => self.daemon.submit(request).await,
                Some(home) => {
                    self.daemon
                        .fulfil(ValidFulfilment::new(home, request)?)
                        .await
                }
            }
        };
        let answer = tokio::select! {
            biased;
            () = place.cancel().cancelled() => {
                return Err(ApiError::new(ErrorCode::Cancelled, "the caller left the bus"));
            }
            answer = answered => answer?,
        };
        tracing::debug!(request = %answer.id(), uid, "asked over D-Bus");
        let request = Request::publish(connection, place).await?;
        Ok((answer, request))
    }

    /// A request whose answer goes down a file descriptor.
    pub(super) async fn stream(
        &self,
        arguments: Arguments,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<(OwnedObjectPath, ReaderEnd), Failure> {
        let stall_timeout = self.settings.limits.stall_timeout;
        let (descriptor, theirs) = Descriptor::pair(arguments.format, stall_timeout)
            .map_err(|error| internal(&format!("no socket pair: {error}")))?;
        let (answer, request) = self.begin(arguments, header, connection).await?;
        let path = OwnedObjectPath::try_from(request.path())
            .map_err(|_| internal("the request has no valid path"))?;
        let (theirs, replied) = ResponseDispatchNotifier::new(zbus::OwnedFd::from(theirs));
        tokio::spawn(async move {
            // Finished must not overtake the reply that tells the request's path.
            replied.await;
            let mut sink = Sink::Descriptor(descriptor);
            let ending = deliver(answer, &mut sink, request.cancel(), request.progress()).await;
            if let Sink::Descriptor(descriptor) = sink {
                descriptor.close(&ending);
            }
            request.finish(&ending).await;
        });
        Ok((path, theirs))
    }
}

pub(super) fn internal(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Internal, message)
}
