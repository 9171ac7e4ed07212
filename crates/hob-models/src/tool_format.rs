//! How models were trained to be told of tools and to write calls. Pure.

use serde::{Deserialize, Serialize};

/// How a model is told of tools, and writes calls of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolFormat {
    /// A JSON object between `<tool_call>` tags, after the Hermes models: Qwen 2.5 and 3, `SmolLM` and
    /// many more. <https://github.com/NousResearch/Hermes-Function-Calling>
    #[serde(rename = "hermes")]
    Hermes,
    /// A JSON object with `parameters`, and results of the role `ipython`: Llama 3.1 to 3.3.
    /// <https://github.com/meta-llama/llama-models/tree/main/models/llama3_2>
    #[serde(rename = "llama3")]
    Llama3,
    /// A list of calls in Python between tokens, and tokens around tools and results, too.
    /// <https://docs.liquid.ai/docs/key-concepts/tool-use>
    #[serde(rename = "lfm2")]
    Lfm2,
    /// The same, with tools and results as they are.
    #[serde(rename = "lfm2.5")]
    Lfm25,
    /// `FunctionGemma`'s own notation.
    /// <https://ai.google.dev/gemma/docs/functiongemma/formatting-and-best-practices>
    #[serde(rename = "functiongemma")]
    FunctionGemma,
    /// The same notation with the tokens of Gemma 4.
    #[serde(rename = "gemma4")]
    Gemma4,
    /// A JSON object and nothing around it, for models that were trained with no form.
    #[serde(rename = "json")]
    Json,
}

/// Texts that a chat template has if its model knows a form: all of one line. The first line that a
/// template has tells its form, so that a form whose texts others have as well comes later.
const SIGNS: [(&[&str], ToolFormat); 7] = [
    (&["<start_function_call>"], ToolFormat::FunctionGemma),
    (&["<|tool_call>"], ToolFormat::Gemma4),
    (&["<|tool_list_start|>"], ToolFormat::Lfm2),
    (&["<|tool_call_start|>"], ToolFormat::Lfm25),
    // LFM2.5's own templates list tools, and leave calls to whoever renders them.
    (&["List of tools: [", "<|im_start|>"], ToolFormat::Lfm25),
    (&["<tool_call>"], ToolFormat::Hermes),
    (&["<|start_header_id|>", "ipython"], ToolFormat::Llama3),
];

impl ToolFormat {
    /// The form that a chat template tells of, by the texts that it writes around tools, calls and
    /// results; `None` if it tells of none that there is here.
    pub fn of_template(template: &str) -> Option<Self> {
        let told = |texts: &[&str]| texts.iter().all(|text| template.contains(text));
        let found = SIGNS.iter().find(|(texts, _)| told(texts));
        found.map(|(_, format)| *format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_tells_its_models_form() {
        let qwen = r#"{%- if tools %}{{- "<|im_start|>system\n<tools>" }}{%- endif %}
            {%- for call in m.tool_calls %}{{- '<tool_call>\n{"name": "' }}{%- endfor %}"#;
        let llama = r#"{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
            {%- elif message.role == "tool" or message.role == "ipython" %}
            {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}"#;
        let lfm2 = r#"{%- set text = "List of tools: <|tool_list_start|>[" -%}
            {{- "<|im_start|>" + message["role"] }} <|tool_response_start|>"#;
        let lfm25 = r#"{%- set text = text + "List of tools: [" -%}
            {{- "<|im_start|>" + message["role"] + "\n" -}}"#;
        let thinking = r#"{{- "List of tools: " + (tools | tojson) }}
            {{- "<|tool_call_start|>[" + calls + "]<|tool_call_end|>" -}}"#;
        let function_gemma = r"<start_of_turn>developer <start_function_declaration>
            {{- '<start_function_call>call:' + name + '{' -}}<escape>";
        let gemma4 = r"{{- '<|turn>system\n' -}}{{- '<|tool>' -}}
            {{- '<|tool_call>call:' + name -}}";
        for (template, format) in [
            (qwen, ToolFormat::Hermes),
            (llama, ToolFormat::Llama3),
            (lfm2, ToolFormat::Lfm2),
            (lfm25, ToolFormat::Lfm25),
            (thinking, ToolFormat::Lfm25),
            (function_gemma, ToolFormat::FunctionGemma),
            (gemma4, ToolFormat::Gemma4),
        ] {
            assert_eq!(
                ToolFormat::of_template(template),
                Some(format),
                "{template}"
            );
        }
    }

    #[test]
    fn a_template_that_knows_no_tools_tells_none() {
        for template in [
            "",
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}",
            "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>",
            "<start_of_turn>model\n{{ message['content'] | trim }}<end_of_turn>\n",
        ] {
            assert_eq!(ToolFormat::of_template(template), None, "{template}");
        }
    }
}
