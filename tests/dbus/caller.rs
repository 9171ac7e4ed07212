//! A D-Bus client, as a hub would have one.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::net::UnixStream;

use futures_util::StreamExt;
use hob_api::Event;
use hob_api::dbus::{ADMIN_INTERFACE, BUS_NAME, OBJECT_PATH};
use hob_e2e::{Bus, patiently};
use zbus::{Connection, DBusError, OwnedObjectPath, OwnedVariant, Variant, proxy};

pub(crate) type Options<'a> = HashMap<&'a str, Variant<'a>>;
pub(crate) type Details = HashMap<String, OwnedVariant>;

#[proxy(
    interface = "org.hobd.Hob1.Assistant",
    default_service = "org.hobd.Hob1",
    default_path = "/org/hobd/Hob1"
)]
pub(crate) trait Assistant {
    fn ask(&self, text: &str, options: Options<'_>) -> zbus::Result<(String, Details)>;
    fn stream(
        &self,
        text: &str,
        options: Options<'_>,
    ) -> zbus::Result<(OwnedObjectPath, zbus::OwnedFd)>;
    fn pin_prefix(
        &self,
        name: &str,
        messages: &[(&str, Options<'_>)],
        options: Options<'_>,
    ) -> zbus::Result<()>;
    fn decide(
        &self,
        state: &str,
        questions: Options<'_>,
        options: Options<'_>,
    ) -> zbus::Result<Details>;
    fn unpin_prefix(&self, name: &str) -> zbus::Result<()>;
    fn register_provider(
        &self,
        provider: &zbus::ObjectPath<'_>,
        tools: Vec<Options<'_>>,
        targets: Vec<Options<'_>>,
        options: Options<'_>,
    ) -> zbus::Result<u64>;
    fn update_targets(
        &self,
        provider: &zbus::ObjectPath<'_>,
        changed: Vec<Options<'_>>,
        removed: &[&str],
    ) -> zbus::Result<u64>;
    fn unregister_provider(&self, provider: &zbus::ObjectPath<'_>) -> zbus::Result<()>;
    fn interpret(
        &self,
        text: &str,
        options: Options<'_>,
    ) -> zbus::Result<(String, Vec<Details>, Details)>;
    fn complete(
        &self,
        messages: &[(&str, Options<'_>)],
        options: Options<'_>,
    ) -> zbus::Result<(OwnedObjectPath, zbus::OwnedFd)>;
    fn open_conversation(&self, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn capabilities(&self) -> zbus::Result<Vec<String>>;
}

#[proxy(interface = "org.hobd.Hob1.Request", default_service = "org.hobd.Hob1")]
pub(crate) trait Request {
    fn cancel(&self) -> zbus::Result<()>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn state(&self) -> zbus::Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn position(&self) -> zbus::Result<u32>;
    #[zbus(signal)]
    fn finished(&self, outcome: u32, details: Details) -> zbus::Result<()>;
}

/// A connection to the bus.
pub(crate) struct Caller {
    pub(crate) connection: Connection,
}

/// A streamed request: its object, its end to come, and the descriptor to read.
pub(crate) struct Streamed {
    pub(crate) request: RequestProxy<'static>,
    finished: FinishedStream,
    pub(crate) reader: UnixStream,
}

/// How a streamed request ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) outcome: u32,
    pub(crate) details: Details,
}

impl Caller {
    pub(crate) async fn on(bus: &Bus) -> Self {
        Self {
            connection: bus.connect().await,
        }
    }

    pub(crate) async fn at(address: &str) -> zbus::Result<Self> {
        let connection = zbus::connection::Builder::address(address).build().await?;
        Ok(Self { connection })
    }

    pub(crate) async fn assistant(&self) -> AssistantProxy<'static> {
        AssistantProxy::new(&self.connection).await.unwrap()
    }

    /// `Ask`, whose failure is the error's name and text.
    pub(crate) async fn ask(
        &self,
        text: &str,
        options: Options<'_>,
    ) -> Result<(String, Details), (String, String)> {
        let assistant = self.assistant().await;
        patiently("the reply to Ask", assistant.ask(text, options))
            .await
            .map_err(|error| name_and_text(&error))
    }

    /// `Stream`, subscribed to `Finished` before.
    pub(crate) async fn stream(&self, text: &str, token: &str, format: &str) -> Streamed {
        let request = self.request(token).await;
        let finished = request.receive_finished().await.unwrap();
        let options = Options::from([("handle_token", token.into()), ("format", format.into())]);
        let (path, fd) = self.assistant().await.stream(text, options).await.unwrap();
        let foreseen = request.inner().path().as_str();
        assert_eq!(path.as_str(), foreseen, "the path is foreseeable");
        Streamed {
            request,
            finished,
            reader: UnixStream::from(std::os::fd::OwnedFd::from(fd)),
        }
    }

    /// The object of this caller's request `token`, which need not exist.
    pub(crate) async fn request(&self, token: &str) -> RequestProxy<'static> {
        let name = self.connection.unique_name().unwrap();
        let sender = name.as_str().replace(':', "").replace('.', "_");
        let path = format!("{OBJECT_PATH}/request/{sender}/{token}");
        RequestProxy::new(&self.connection, path).await.unwrap()
    }

    pub(crate) async fn admin<B>(&self, method: &str, body: &B) -> zbus::Result<()>
    where
        B: serde::Serialize + zbus::wire::DynamicType,
    {
        let call = self.connection.call_method(
            Some(BUS_NAME),
            OBJECT_PATH,
            Some(ADMIN_INTERFACE),
            method,
            body,
        );
        patiently(method, call).await.map(|_| ())
    }
}

impl Streamed {
    pub(crate) async fn end(&mut self) -> End {
        let signal = patiently("Finished", self.finished.next()).await.unwrap();
        let arguments = signal.args().unwrap();
        End {
            outcome: *arguments.outcome(),
            details: arguments.details().clone(),
        }
    }

    /// All that comes, to the end of the file.
    pub(crate) async fn read(&self) -> Vec<u8> {
        read_all(&self.reader).await
    }

    pub(crate) async fn text(&self) -> String {
        String::from_utf8(self.read().await).unwrap()
    }

    pub(crate) async fn events(&self) -> Vec<Event> {
        parse_events(&self.text().await)
    }

    /// Waits for the first byte.
    pub(crate) async fn started(&self) {
        let mut reader = self.reader.try_clone().unwrap();
        let reading = tokio::task::spawn_blocking(move || reader.read_exact(&mut [0]).unwrap());
        patiently("the first byte", reading).await.unwrap();
    }
}

impl End {
    /// The name of the error that it ended with.
    pub(crate) fn error(&self) -> String {
        text(&self.details, "error")
    }
}

/// The string under `key`.
pub(crate) fn text(details: &Details, key: &str) -> String {
    String::try_from(details[key].try_clone().unwrap()).unwrap()
}

/// The number under `key`.
pub(crate) fn number(details: &Details, key: &str) -> u32 {
    u32::try_from(&details[key]).unwrap()
}

/// A D-Bus error's name and text.
pub(crate) fn name_and_text(error: &zbus::Error) -> (String, String) {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            (name.to_string(), text.clone().unwrap_or_default())
        }
        // zbus has the standard errors apart.
        zbus::Error::FDO(error) => (
            error.name().to_string(),
            error.description().unwrap_or_default().to_owned(),
        ),
        other => panic!("not a D-Bus error: {other:?}"),
    }
}

/// The whole text of a descriptor of format `text`.
pub(crate) async fn read_text(fd: zbus::OwnedFd) -> String {
    let reader = UnixStream::from(std::os::fd::OwnedFd::from(fd));
    String::from_utf8(read_all(&reader).await).unwrap()
}

/// All events of a descriptor of format `events`.
pub(crate) async fn read_events(fd: zbus::OwnedFd) -> Vec<Event> {
    parse_events(&read_text(fd).await)
}

fn parse_events(text: &str) -> Vec<Event> {
    assert!(text.ends_with('\n'), "the last line is whole: {text:?}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn read_all(reader: &UnixStream) -> Vec<u8> {
    let mut reader = reader.try_clone().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // A blocking descriptor is promised, so plain reading must do.
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    });
    patiently("the end of the file", reading).await.unwrap()
}
