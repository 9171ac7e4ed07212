//! `org.hobd.Hob1.Conversation`: a conversation that hobd keeps, to the eyes of its caller alone.

#![allow(
    clippy::doc_markdown,
    reason = "members' comments are served to bus clients as plain text"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "zbus hands headers over by value"
)]

use hob_api::{ApiError, ErrorCode};
use tokio_util::sync::CancellationToken;
use zbus::message::Header;
use zbus::names::{BusName, OwnedUniqueName};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath, Variant, fdo, interface};

use super::Front;
use super::asking::{ReaderEnd, internal};
use super::callers::Place;
use super::failure::{Failure, without_nul};
use super::options::{Arguments, Dict, Method, Opening};
use super::request::{Details, check_caller};
use crate::conversations::{self, ConversationId};

/// The object. The conversation itself lies in the database and outlives it.
#[derive(Debug)]
pub(super) struct Conversation {
    front: Front,
    caller: OwnedUniqueName,
    id: ConversationId,
    close: CancellationToken,
}

#[interface(name = "org.hobd.Hob1.Conversation")]
impl Conversation {
    /// Answers one question within the conversation: what was said goes before it, and the turn is
    /// stored before the reply. Otherwise as the method Ask of the main object, whose options it
    /// has but for `conversation`; `system` takes the place of the conversation's instructions.
    ///
    /// A turn that can't be stored, on a full disk for example, is answered all the same: `details`
    /// then have stored b false, and store_problem s. One request at a time: another one is
    /// org.hobd.Hob1.Error.Busy.
    #[zbus(out_args("reply", "details"))]
    async fn ask(
        &self,
        text: String,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(String, Details), Failure> {
        self.check(&header)?;
        let arguments = Arguments::within(self.id.as_str(), Method::Ask, text, options)?;
        self.front.ask(arguments, &header, connection).await
    }

    /// Answers one question within the conversation through a file descriptor, as the method Stream
    /// of the main object does. The turn is stored before the signal Finished, whose details tell
    /// so; of format `events`, the record `done` does, too.
    #[zbus(out_args("request", "fd"))]
    async fn stream(
        &self,
        text: String,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(OwnedObjectPath, ReaderEnd), Failure> {
        self.check(&header)?;
        let arguments = Arguments::within(self.id.as_str(), Method::Stream, text, options)?;
        self.front.stream(arguments, &header, connection).await
    }

    /// Takes the object off the bus; `Closed` follows. Requests under way go on, and what was said
    /// stays: OpenConversation with its id goes on with it.
    fn close(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<()> {
        check_caller(&self.caller, Some(&header))?;
        self.close.cancel();
        Ok(())
    }

    /// The conversation's id, which stays the same for ever.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self, #[zbus(header)] header: Option<Header<'_>>) -> fdo::Result<String> {
        check_caller(&self.caller, header.as_ref())?;
        Ok(self.id.as_str().to_owned())
    }

    /// The object is gone; sent to its caller alone. `details` has the conversation's id as id s.
    #[zbus(signal)]
    async fn closed(emitter: &SignalEmitter<'_>, details: Details) -> zbus::Result<()>;
}

impl Conversation {
    /// Opens a conversation and puts its object on the bus, for as long as its caller stays there.
    pub(super) async fn open(
        front: &Front,
        opening: Opening,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<OwnedObjectPath, Failure> {
        let sender = super::sender(header)?;
        let place = front.conversing.enter(&sender, opening.handle_token)?;
        // As for requests: from here on the caller's leaving is noticed.
        let uid = super::uid_of(connection, &sender).await?;
        let conversations = front.daemon.conversations();
        let found = match opening.id {
            Some(id) => {
                let id = ConversationId::parse(&id).ok_or_else(conversations::not_found)?;
                conversations.get(uid, id).await?
            }
            None => conversations.create(uid, opening.fields).await?,
        };
        let id = ConversationId::parse(&found.id).ok_or_else(conversations::not_found)?;
        let path = place.path();
        let object = Self {
            front: front.clone(),
            caller: place.caller().clone(),
            id: id.clone(),
            close: place.cancel().clone(),
        };
        if !matches!(
            connection.object_server().at(path.clone(), object).await,
            Ok(None)
        ) {
            return Err(internal("the conversation's object could not be made").into());
        }
        tokio::spawn(remove_when_closed(connection.clone(), place, id));
        OwnedObjectPath::try_from(path)
            .map_err(|_| internal("the conversation has no valid path").into())
    }

    /// A foreign object is as one that does not exist.
    fn check(&self, header: &Header<'_>) -> Result<(), Failure> {
        check_caller(&self.caller, Some(header)).map_err(|error| {
            let text = match error {
                fdo::Error::UnknownObject(text) => text,
                other => without_nul(other.to_string()),
            };
            ApiError::new(ErrorCode::NotFound, text).into()
        })
    }
}

/// Waits until the caller closes the conversation or leaves the bus.
async fn remove_when_closed(connection: Connection, mut place: Place, id: ConversationId) {
    place.cancel().cancelled().await;
    let path = place.path();
    let server = connection.object_server();
    if let Err(error) = server.remove::<Conversation, _>(path.as_str()).await {
        tracing::warn!(%error, "a conversation's object could not be removed");
    }
    place.release();
    let caller = place.caller().clone();
    let emitter = SignalEmitter::new(&connection, path.as_str())
        .map(|emitter| emitter.set_destination(BusName::Unique(caller.into_inner())));
    if let Ok(emitter) = emitter {
        let details = Details::from([("id", Variant::from(id.as_str().to_owned()))]);
        // A caller, or a bus, that is gone does not miss it.
        let _ = Conversation::closed(&emitter, details).await;
    }
}
