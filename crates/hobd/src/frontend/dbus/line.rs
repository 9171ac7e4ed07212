//! hobd's line to one hub on the bus: calls of its object's `org.hobd.Hob1.ToolProvider`.

use std::collections::{BTreeMap, HashMap};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hob_api::dbus::TOOL_PROVIDER_INTERFACE;
use hob_api::provider::Scalar;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use zbus::message::{Flags, Message};
use zbus::names::OwnedUniqueName;
use zbus::wire::DynamicType;
use zbus::{Connection, DBusError as _, OwnedObjectPath, Variant};

use super::failure::without_nul;
use super::request::Details;
use super::{LAST_WORDS, values};
use crate::hub::{
    CallFailure, Invocation, Line, Place, RESULT_TEXT_BYTES_MAX, ToolResult, cleaned,
};

/// Longest reply of a hub in bytes.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// Most levels of a value in a result: a dictionary, a variant in it, and what that holds.
const LEVELS_MAX: usize = 3;
/// The bus itself.
const BUS: &str = "org.freedesktop.DBus";
/// What a bus says of a name that nobody has any more.
const GONE: [&str; 4] = [
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Disconnected",
];

/// A hub's object, by the name that the bus gave its connection: no other program can have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) owner: OwnedUniqueName,
    pub(super) path: OwnedObjectPath,
}

/// The line.
#[derive(Clone, Debug)]
pub(super) struct BusLine {
    pub(super) connection: Connection,
    pub(super) address: Address,
}

impl BusLine {
    /// Calls the hub, in a task of its own, as a message must not be left half written. When nobody
    /// waits for the reply any more the hub is told, and the place is free.
    fn call(
        &self,
        member: &'static str,
        call: Invocation,
        place: Place,
    ) -> BoxFuture<'static, Result<Message, CallFailure>> {
        let line = self.clone();
        let (mut reply, replied) = oneshot::channel();
        tokio::spawn(async move {
            let _place = place;
            let (id, body) = body(call);
            let Address { owner, path } = &line.address;
            let interface = Some(TOOL_PROVIDER_INTERFACE);
            let connection = &line.connection;
            let called = connection.call_method(Some(owner), path, interface, member, &body);
            let mut called = std::pin::pin!(called);
            tokio::select! {
                biased;
                // Nobody may be left to be told.
                answer = &mut called => { let _ = reply.send(answer); return; }
                () = reply.closed() => {}
            }
            let cancelled = (id,);
            let mut told = std::pin::pin!(line.tell("Cancel", &cancelled));
            tokio::select! {
                biased;
                // It came too late, and the hub is told all the same.
                _ = &mut called => told.await,
                () = &mut told => {}
            }
        });
        async move {
            replied
                .await
                .map_err(|_| CallFailure::Lost)?
                .map_err(|error| failure(&error))
        }
        .boxed()
    }

    /// Tells the hub something that it need not reply to. It may be gone.
    async fn tell<B: Serialize + DynamicType>(&self, member: &'static str, body: &B) {
        let Address { owner, path } = &self.address;
        let message = Message::method_call(path, member)
            .destination(owner)
            .interface(TOOL_PROVIDER_INTERFACE)
            .with_flags(Flags::NO_REPLY_EXPECTED)
            .build(body);
        match message {
            Ok(message) => {
                let _ = tokio::time::timeout(LAST_WORDS, self.connection.send(&message)).await;
            }
            Err(error) => tracing::warn!(%error, member, "a hub can't be told"),
        }
    }
}

impl Line for BusLine {
    fn confirm(
        &self,
        call: Invocation,
        place: Place,
    ) -> BoxFuture<'static, Result<bool, CallFailure>> {
        let reply = self.call("Confirm", call, place);
        async move {
            let reply = reply.await?;
            let confirmed = reply.body().deserialize::<bool>();
            let unclear = "the hub does not say whether it was confirmed";
            confirmed.map_err(|_| CallFailure::Failed(unclear.to_owned()))
        }
        .boxed()
    }

    fn invoke(
        &self,
        call: Invocation,
        place: Place,
    ) -> BoxFuture<'static, Result<ToolResult, CallFailure>> {
        let reply = self.call("Invoke", call, place);
        async move { read(&reply.await?).map_err(CallFailure::Failed) }.boxed()
    }

    fn release(&self) -> BoxFuture<'static, ()> {
        let line = self.clone();
        async move { line.tell("Release", &()).await }.boxed()
    }
}

/// A hub's result; what is wrong with it otherwise.
fn read(reply: &Message) -> Result<ToolResult, String> {
    let body = reply.body();
    if body.len() > REPLY_BYTES_MAX {
        return Err(format!(
            "the hub's result has {} bytes, and {REPLY_BYTES_MAX} fit",
            body.len()
        ));
    }
    let unreadable = |_| "the hub's result is no dictionary".to_owned();
    let fields: BTreeMap<&str, Variant<'_>> = body.deserialize().map_err(unreadable)?;
    let fields = fields.into_iter().filter_map(|(key, value)| {
        let value = values::json(&value, LEVELS_MAX, false)?;
        Some((key.to_owned(), value))
    });
    ToolResult::read(&fields.collect::<Map<String, Value>>())
}

fn failure(error: &zbus::Error) -> CallFailure {
    // A hub may pass on what it was told of somebody else: only the bus knows that the hub is gone.
    let mut of_bus = true;
    let (name, text) = match error {
        zbus::Error::MethodError(name, text, reply) => {
            let reply = reply.header();
            of_bus = reply.sender().is_some_and(|name| name.as_str() == BUS);
            (name.to_string(), text.clone())
        }
        zbus::Error::FDO(error) => {
            let text = error.description().map(ToOwned::to_owned);
            (error.name().to_string(), text)
        }
        // The connection is gone.
        _ => return CallFailure::Lost,
    };
    if of_bus && GONE.contains(&name.as_str()) {
        return CallFailure::Lost;
    }
    let text = text.filter(|text| !text.is_empty()).unwrap_or(name);
    CallFailure::Failed(cleaned(&text, RESULT_TEXT_BYTES_MAX))
}

type Body = (String, String, HashMap<String, Variant<'static>>, Details);

/// The arguments of `Invoke` and `Confirm`, after the call's id.
fn body(call: Invocation) -> (String, Body) {
    let left = u32::try_from(call.left.as_millis()).unwrap_or(u32::MAX);
    let mut context = Details::from([
        ("targets", Variant::from(call.targets)),
        ("provider", Variant::from(call.provider)),
        ("generation", Variant::from(call.generation)),
        ("text", Variant::from(call.text)),
        ("language", Variant::from(call.language.as_str())),
        ("deadline_ms", Variant::from(left)),
        ("confirmed", Variant::from(call.confirmed)),
    ]);
    context.extend(call.area.map(|area| ("area", Variant::from(area))));
    context.extend(call.device.map(|device| ("device", Variant::from(device))));
    let id = call.call_id.clone();
    (
        id,
        (call.call_id, call.tool, scalars(&call.arguments), context),
    )
}

/// Named values, as they are on the bus.
pub(super) fn scalars(values: &BTreeMap<String, Scalar>) -> HashMap<String, Variant<'static>> {
    let value = |value: &Scalar| match value {
        Scalar::Boolean(value) => Variant::from(*value),
        Scalar::Integer(value) => Variant::from(*value),
        Scalar::Number(value) => Variant::from(*value),
        Scalar::Text(text) => Variant::from(without_nul(text.clone())),
    };
    let values = values.iter();
    values
        .map(|(name, scalar)| (name.clone(), value(scalar)))
        .collect()
}
