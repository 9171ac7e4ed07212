//! The forms that there are. What each is, and where it is written down, `hob_models::ToolFormat` says.

use super::Piece::{Mark, Text};
use super::{Form, Listing, Notation, Results};

pub(super) static HERMES: Form = Form {
    prelude: None,
    opening: &[],
    before_name: &[Mark("<tool_call>"), Text("\n{\"name\": \"")],
    before_arguments: "\", \"arguments\": ",
    notation: Notation::Json,
    after_arguments: &[Text("}\n"), Mark("</tool_call>")],
    between: "\n",
    closing: &[],
    listing: Listing::Tags,
    results: Results::FromUser {
        open: &[Mark("<tool_response>"), Text("\n")],
        named: false,
        close: &[Text("\n"), Mark("</tool_response>")],
    },
};

/// The token before a call is what Llama 3.1 writes sometimes; its templates write none.
pub(super) static LLAMA3: Form = Form {
    prelude: Some("<|python_tag|>"),
    opening: &[],
    before_name: &[Text("{\"name\": \"")],
    before_arguments: "\", \"parameters\": ",
    notation: Notation::Json,
    after_arguments: &[Text("}")],
    between: "; ",
    closing: &[],
    listing: Listing::Lines,
    // Its templates make `ipython` of the role.
    results: Results::FromTool {
        open: &[],
        close: &[],
    },
};

pub(super) static LFM2: Form = Form {
    listing: Listing::List {
        open: &[Text("List of tools: "), Mark("<|tool_list_start|>")],
        close: &[Mark("<|tool_list_end|>")],
    },
    results: Results::FromTool {
        open: &[Mark("<|tool_response_start|>")],
        close: &[Mark("<|tool_response_end|>")],
    },
    ..LFM25_FORM
};

pub(super) static LFM25: Form = LFM25_FORM;

const LFM25_FORM: Form = Form {
    prelude: None,
    opening: &[Mark("<|tool_call_start|>"), Text("[")],
    before_name: &[],
    before_arguments: "(",
    notation: Notation::Python,
    after_arguments: &[Text(")")],
    between: ", ",
    closing: &[Text("]"), Mark("<|tool_call_end|>")],
    listing: Listing::List {
        open: &[Text("List of tools: ")],
        close: &[],
    },
    results: Results::FromTool {
        open: &[],
        close: &[],
    },
};

pub(super) static FUNCTION_GEMMA: Form = Form {
    prelude: None,
    opening: &[],
    before_name: &[Mark("<start_function_call>"), Text("call:")],
    before_arguments: "{",
    notation: Notation::Gemma { quote: "<escape>" },
    after_arguments: &[Text("}"), Mark("<end_function_call>")],
    between: "",
    closing: &[],
    listing: Listing::Declarations {
        open: "<start_function_declaration>",
        close: "<end_function_declaration>",
    },
    results: Results::WithCalls {
        open: "<start_function_response>",
        close: "<end_function_response>",
    },
};

pub(super) static GEMMA4: Form = Form {
    prelude: None,
    opening: &[],
    before_name: &[Mark("<|tool_call>"), Text("call:")],
    before_arguments: "{",
    notation: Notation::Gemma { quote: "<|\"|>" },
    after_arguments: &[Text("}"), Mark("<tool_call|>")],
    between: "",
    closing: &[],
    listing: Listing::Declarations {
        open: "<|tool>",
        close: "<tool|>",
    },
    results: Results::WithCalls {
        open: "<|tool_response>",
        close: "<tool_response|>",
    },
};

pub(super) static JSON: Form = Form {
    prelude: None,
    opening: &[],
    before_name: &[Text("{\"name\": \"")],
    before_arguments: "\", \"arguments\": ",
    notation: Notation::Json,
    after_arguments: &[Text("}")],
    between: "\n",
    closing: &[],
    listing: Listing::Lines,
    results: Results::FromUser {
        open: &[Text("Result of ")],
        named: true,
        close: &[],
    },
};
