//! Providers and readings as they are on the bus: dictionaries in, dictionaries out.
//!
//! What comes in becomes the JSON of the other door, and goes the same way from there: one place
//! says what is valid, and names what is not.

use std::collections::HashMap;
use std::sync::Arc;

use hob_api::home::{Call, HomeAnswer, HomeRequest, Reader};
use hob_api::{ApiError, ErrorCode};
use serde_json::{Map, Value, json};
use zbus::message::Header;
use zbus::names::{BusName, OwnedUniqueName, UniqueName};
use zbus::{Connection, OwnedObjectPath, Variant};

use super::hubs::Claimed;
use super::line::{Address, BusLine, scalars};
use super::options::Dict;
use super::request::Details;
use super::{Front, sender, told_by_bus, uid_of, values};
use crate::hub::Hub;
use crate::providers::ProviderName;
use crate::request::{self, ValidHome};

/// Most levels of a value: a target's state is a dictionary within one.
const LEVELS_MAX: usize = 5;

impl Front {
    /// Registers what a hub's object can do.
    pub(super) async fn register(
        &self,
        path: OwnedObjectPath,
        tools: Vec<Dict<'_>>,
        targets: Vec<Dict<'_>>,
        options: Dict<'_>,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<u64, ApiError> {
        let caller = sender(header)?;
        let uid = uid_of(connection, &caller).await?;
        let key = (uid, name_of(&path, options)?);
        let tools: Vec<Value> = (tools.into_iter().enumerate())
            .map(|(place, tool)| read_tool(tool, place))
            .collect::<Result<_, _>>()?;
        let body = json!({"tools": tools, "targets": read_all(targets, "targets")?});
        let address = address_of(&caller, path);
        let hub = self.claim(&key, &address, connection).await?;
        // Whoever left before the claim was made can't lose it later.
        if !is_there(connection, &address).await {
            self.hubs.left(&caller);
            return Err(ApiError::new(ErrorCode::Cancelled, "the hub left the bus"));
        }
        let parse = move || request::parse_provider(body.to_string().as_bytes());
        let theirs = Some(Arc::clone(&hub));
        let put = self.daemon.put_provider(uid, key.1.clone(), parse, theirs);
        match put.await {
            Ok(shown) => {
                self.hubs.registered(&key, &address, &hub)?;
                tracing::info!(
                    uid,
                    tools = shown.tools,
                    targets = shown.targets,
                    "provider registered over D-Bus"
                );
                Ok(shown.generation)
            }
            Err(error) => {
                self.hubs.disclaim(&key, &hub);
                Err(error)
            }
        }
    }

    /// Claims a name for a hub's object. A hub that was restarted may be back before the bus has told
    /// that it had left.
    async fn claim(
        &self,
        key: &(u32, ProviderName),
        address: &Address,
        connection: &Connection,
    ) -> Result<Arc<Hub>, ApiError> {
        let line = || {
            Hub::new(BusLine {
                connection: connection.clone(),
                address: address.clone(),
            })
        };
        let mut claimed = self.hubs.claim(key, address, line);
        if let Claimed::Taken(theirs) = &claimed
            && !is_there(connection, theirs).await
        {
            self.hubs.left(&theirs.owner);
            claimed = self.hubs.claim(key, address, line);
        }
        match claimed {
            Claimed::Mine(hub) => Ok(hub),
            Claimed::Taken(_) => {
                let message = "another hub of yours has registered a provider of this name";
                Err(ApiError::new(ErrorCode::InvalidRequest, message)
                    .param("name")
                    .hint("give another one in the option `name`"))
            }
        }
    }

    /// Changes the targets of a hub's object.
    pub(super) async fn update(
        &self,
        path: OwnedObjectPath,
        changed: Vec<Dict<'_>>,
        removed: Vec<String>,
        header: &Header<'_>,
    ) -> Result<u64, ApiError> {
        let key = self.hubs.name_of(&address_of(&sender(header)?, path))?;
        let body = json!({"changed": read_all(changed, "changed")?, "removed": removed});
        let parse = move || request::parse_targets(body.to_string().as_bytes());
        let patched = self.daemon.patch_provider(key.0, key.1.clone(), parse);
        Ok(patched.await?.generation)
    }

    /// Takes what a hub's object registered back.
    pub(super) fn unregister(
        &self,
        path: OwnedObjectPath,
        header: &Header<'_>,
    ) -> Result<(), ApiError> {
        let key = self.hubs.name_of(&address_of(&sender(header)?, path))?;
        self.hubs.release(&key);
        Ok(())
    }

    /// Reads what somebody said.
    pub(super) async fn interpret(
        &self,
        text: String,
        options: Dict<'_>,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<(&'static str, Vec<Details>, Details), ApiError> {
        let said = ValidHome::new(read_request(text, options)?)?;
        let uid = uid_of(connection, &sender(header)?).await?;
        let answer = self.daemon.interpret(uid, said).await?;
        let calls = answer.calls.iter().map(call_details).collect();
        Ok((answer.outcome.as_str(), calls, answer_details(answer)))
    }
}

fn address_of(caller: &UniqueName<'_>, path: OwnedObjectPath) -> Address {
    Address {
        owner: OwnedUniqueName::from(caller.to_owned()),
        path,
    }
}

/// The provider's name: the option `name`, or the object's path with dots.
fn name_of(path: &OwnedObjectPath, options: Dict<'_>) -> Result<ProviderName, ApiError> {
    let mut name = None;
    for (key, value) in options {
        match (key.as_str(), value) {
            ("name", Variant::Str(text)) => name = Some(text.as_str().to_owned()),
            _ => return Err(unknown_option(&key, "RegisterProvider takes name, a text")),
        }
    }
    let name = name.unwrap_or_else(|| path.as_str().trim_matches('/').replace('/', "."));
    ProviderName::parse(&name)
}

fn read_request(text: String, options: Dict<'_>) -> Result<HomeRequest, ApiError> {
    let mut request = HomeRequest {
        text,
        ..HomeRequest::default()
    };
    for (key, value) in options {
        match (key.as_str(), value) {
            ("provider", Variant::Str(name)) => request.provider = Some(name.as_str().to_owned()),
            ("area", Variant::Str(name)) => request.area = Some(name.as_str().to_owned()),
            ("reader", Variant::Str(name)) => request.reader = reader(name.as_str())?,
            ("min_probability", Variant::F64(least)) => request.min_probability = Some(least),
            _ => {
                let takes = "Interpret takes area, provider and reader, texts, and min_probability, a double";
                return Err(unknown_option(&key, takes));
            }
        }
    }
    Ok(request)
}

/// Who is to read what is said.
pub(super) fn reader(name: &str) -> Result<Reader, ApiError> {
    let mut readers = Reader::ALL.into_iter();
    readers.find(|known| known.as_str() == name).ok_or_else(|| {
        let message = format!("`reader` is `{}`, which reads nothing", request::echo(name));
        ApiError::new(ErrorCode::InvalidRequest, message)
            .param("reader")
            .hint("give words or model")
    })
}

fn unknown_option(key: &str, hint: &str) -> ApiError {
    let key = request::echo(key);
    let message = format!("option `{key}` is not known, or of another type");
    ApiError::new(ErrorCode::InvalidRequest, message)
        .param(key)
        .hint(hint)
}

/// A tool: its schema is JSON text, as that is a standard of its own, and what it acts on stands
/// beside the rest.
fn read_tool(tool: Dict<'_>, place: usize) -> Result<Value, ApiError> {
    let mut fields = Map::new();
    let mut acts_on = Map::new();
    for (key, value) in tool {
        let path = format!("tools[{place}].{}", request::echo(&key));
        let value = read_value(&value, &path)?;
        match (key.as_str(), value) {
            ("parameters", Value::String(schema)) => {
                let schema = serde_json::from_str(&schema).map_err(|error| {
                    let message = format!("`{path}` is not valid JSON: {error}");
                    invalid(message, &path).hint("give a JSON Schema as text")
                })?;
                fields.insert(key, schema);
            }
            ("kinds" | "capabilities", value) => {
                acts_on.insert(key, value);
            }
            (_, value) => {
                fields.insert(key, value);
            }
        }
    }
    if !acts_on.is_empty() {
        fields.insert("acts_on".to_owned(), Value::Object(acts_on));
    }
    Ok(Value::Object(fields))
}

fn read_all(dicts: Vec<Dict<'_>>, list: &str) -> Result<Vec<Value>, ApiError> {
    let read = |(place, dict): (usize, Dict<'_>)| {
        let fields = dict.into_iter().map(|(key, value)| {
            let path = format!("{list}[{place}].{}", request::echo(&key));
            Ok((key, read_value(&value, &path)?))
        });
        Ok(Value::Object(fields.collect::<Result<_, ApiError>>()?))
    };
    dicts.into_iter().enumerate().map(read).collect()
}

/// A value of the bus as one of JSON.
fn read_value(value: &Variant<'_>, path: &str) -> Result<Value, ApiError> {
    values::json(value, LEVELS_MAX, true).ok_or_else(|| {
        let message = format!("`{path}` has a value of a type that is not read here");
        invalid(message, path).hint("give text, numbers, booleans, or lists and dictionaries")
    })
}

fn invalid(message: String, path: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message).param(path)
}

/// A call, and what became of it if it was to be done.
fn call_details(call: &Call) -> Details {
    let mut details = HashMap::from([
        ("provider", Variant::from(call.provider.clone())),
        ("tool", Variant::from(call.tool.clone())),
        ("targets", Variant::from(call.targets.clone())),
        ("arguments", Variant::from(scalars(&call.arguments))),
        ("probability", Variant::from(call.probability)),
        ("needs_confirmation", Variant::from(call.needs_confirmation)),
    ]);
    if let Some(result) = &call.result {
        let text = |text: &Option<String>| Variant::from(text.clone().unwrap_or_default());
        details.extend([
            ("call_id", Variant::from(result.call_id.clone())),
            ("status", Variant::from(result.status.as_str())),
            ("speech", text(&result.speech)),
            ("error", text(&result.error)),
            ("data", Variant::from(scalars(&result.data))),
        ]);
    }
    details
}

/// What was done about what was said.
pub(super) fn done_details(home: &HomeAnswer) -> Details {
    let calls: Vec<Details> = home.calls.iter().map(call_details).collect();
    let mut details = answer_details(home.clone());
    details.extend([
        ("outcome", Variant::from(home.outcome.as_str())),
        ("calls", Variant::from(calls)),
    ]);
    details
}

fn answer_details(answer: HomeAnswer) -> Details {
    let alternatives: Vec<Details> = answer.alternatives.iter().map(call_details).collect();
    let mut details = HashMap::from([
        ("alternatives", Variant::from(alternatives)),
        ("targets", Variant::from(answer.targets)),
        ("read_us", Variant::from(answer.read_us)),
    ]);
    let reason = answer
        .reason
        .map(|reason| ("reason", Variant::from(reason)));
    details.extend(reason);
    if !answer.left_out.is_empty() {
        details.insert("left_out", Variant::from(answer.left_out));
    }
    if let Some(asked) = answer.asked {
        details.insert("holds", Variant::from(asked.holds));
        details.insert("fails", Variant::from(asked.fails));
    }
    if let Some(decoded) = answer.decoded {
        let written = decoded.usage.completion_tokens_details;
        details.insert("model", Variant::from(decoded.model));
        details.insert("forward_passes", Variant::from(written.forward_passes));
        details.insert(
            "completion_tokens",
            Variant::from(decoded.usage.completion_tokens),
        );
    }
    details
}

/// Whether a hub is still on the bus. One that the bus does not tell of counts as gone.
async fn is_there(connection: &Connection, hub: &Address) -> bool {
    let (connection, hub) = (connection.clone(), hub.clone());
    let there = told_by_bus(async move {
        let bus = zbus::fdo::DBusProxy::new(&connection).await?;
        let name = BusName::Unique(hub.owner.as_ref());
        Ok(bus.name_has_owner(name).await?)
    });
    there.await == Some(true)
}
