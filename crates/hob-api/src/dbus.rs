//! Names on the bus, and the numbers that stand for states there.

/// The well-known bus name.
pub const BUS_NAME: &str = "org.hobd.Hob1";
/// The main object.
pub const OBJECT_PATH: &str = "/org/hobd/Hob1";
/// Below it, `SENDER/TOKEN`: one object per request under way.
pub const REQUEST_PATH_PREFIX: &str = "/org/hobd/Hob1/request";
/// Below it, `SENDER/TOKEN`: one object per open conversation.
pub const CONVERSATION_PATH_PREFIX: &str = "/org/hobd/Hob1/conversation";
/// Questions and properties.
pub const ASSISTANT_INTERFACE: &str = "org.hobd.Hob1.Assistant";
/// Loading and unloading.
pub const ADMIN_INTERFACE: &str = "org.hobd.Hob1.Admin";
/// One request under way.
pub const REQUEST_INTERFACE: &str = "org.hobd.Hob1.Request";
/// One open conversation.
pub const CONVERSATION_INTERFACE: &str = "org.hobd.Hob1.Conversation";
/// What a hub's own object has, for hobd to call.
pub const TOOL_PROVIDER_INTERFACE: &str = "org.hobd.Hob1.ToolProvider";
/// Prefix of error names, followed by a dot.
pub const ERROR_PREFIX: &str = "org.hobd.Hob1.Error";
/// The polkit action for loading and unloading models.
pub const POLKIT_MANAGE_MODEL: &str = "org.hobd.Hob1.manage-model";
/// The value of the property `InterfaceVersion`.
pub const INTERFACE_VERSION: u32 = 8;
/// Longest text argument in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
