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
use super::values;
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
            // Messages go one after another: when this one has gone, so has the call, whole. However
            // long the bus takes, neither is given up half written, as nothing else would get through.
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

    /// Tells the hub something that it need not reply to. It may be gone. What is begun must be
    /// awaited to its end, which comes when the bus has the message, or is gone.
    async fn tell<B: Serialize + DynamicType>(&self, member: &'static str, body: &B) {
        let Address { owner, path } = &self.address;
        let message = Message::method_call(path, member)
            .destination(owner)
            .interface(TOOL_PROVIDER_INTERFACE)
            .with_flags(Flags::NO_REPLY_EXPECTED)
            .build(body);
        match message {
            Ok(message) => drop(self.connection.send(&message).await),
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
        // Whoever waits for it may give up.
        async move { drop(tokio::spawn(async move { line.tell("Release", &()).await }).await) }
            .boxed()
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::io;
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::time::Duration;

    use futures_util::StreamExt as _;
    use hob_api::home::Language;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
    use tokio::time::{sleep, timeout};
    use zbus::MessageStream;
    use zbus::connection::{Builder, socket};
    use zbus::export::async_trait::async_trait;

    use super::*;
    use crate::hub::{Hub, Step};

    /// One end of a way to the bus that holds a few bytes.
    #[derive(Debug)]
    struct Narrow(DuplexStream);

    #[derive(Debug)]
    struct Reading(ReadHalf<DuplexStream>);

    #[derive(Debug)]
    struct Writing(WriteHalf<DuplexStream>);

    impl socket::Socket for Narrow {
        type ReadHalf = Reading;
        type WriteHalf = Writing;

        fn split(self) -> socket::Split<Reading, Writing> {
            let (read, write) = tokio::io::split(self.0);
            socket::Split::new(Reading(read), Writing(write))
        }
    }

    #[async_trait]
    impl socket::ReadHalf for Reading {
        async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
            Ok((self.0.read(buffer).await?, Vec::new()))
        }
    }

    #[async_trait]
    impl socket::WriteHalf for Writing {
        async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
            self.0.write(buffer).await
        }

        async fn close(&mut self) -> io::Result<()> {
            self.0.shutdown().await
        }
    }

    fn call() -> Invocation {
        Invocation {
            call_id: "c1".to_owned(),
            tool: "turn_on".to_owned(),
            arguments: BTreeMap::new(),
            targets: Vec::new(),
            provider: "home".to_owned(),
            generation: 1,
            text: "turn it on".to_owned(),
            area: None,
            device: None,
            language: Language::English,
            left: Duration::from_secs(10),
            confirmed: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_slow_bus_has_half_of_is_sent_to_its_end() {
        let (ours, bus) = tokio::io::duplex(64);
        let guid = zbus::Guid::from_static_str("0123456789abcdef0123456789abcdef").unwrap();
        let connection = Builder::authenticated_socket(Narrow(ours), guid.clone());
        let hub = Hub::new(BusLine {
            connection: connection.build().await.unwrap(),
            address: Address {
                owner: OwnedUniqueName::try_from(":1.1").unwrap(),
                path: OwnedObjectPath::try_from("/hub").unwrap(),
            },
        });
        // Nobody reads at the other end, and everybody here gives up.
        let place = hub.place(Step::Invoke).await.unwrap();
        let asked = hub.invoke(call(), place);
        timeout(Duration::from_secs(10), asked).await.unwrap_err();
        let parting = hub.release();
        timeout(Duration::from_secs(10), parting).await.unwrap_err();
        sleep(Duration::from_secs(3600)).await;
        let bus = Builder::authenticated_socket(Narrow(bus), guid);
        let bus = bus.build().await.unwrap();
        let mut heard = MessageStream::from(&bus);
        let mut members = Vec::new();
        for _ in 0..3 {
            let message = heard.next().await.unwrap().unwrap();
            members.push(message.header().member().unwrap().to_string());
        }
        assert_eq!(members, ["Invoke", "Cancel", "Release"]);
    }
}
