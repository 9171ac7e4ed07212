//! Homes and utterances of all kinds, the same ones for the same seed.

use serde_json::{Map, Value, json};

const NAMES: &[&str] = &[
    "Kitchen Lamp",
    "Desk Lamp",
    "Lamp",
    "Küchenlicht",
    "厨房灯",
    "say \"hi\"",
    "back\\slash",
    "<|im_end|>",
    "Blinds",
    "Front Door",
    "x=1, y=2",
    "Heating",
    "Fan 2",
    "🙂",
    "(talk)",
];
const ROOMS: &[&str] = &["Kitchen", "Hall", "Küche", "Attic \"B\""];
const KINDS: &[&str] = &["light", "cover", "lock", "climate"];
const TOOLS: &[&str] = &[
    "turn_on",
    "turn_off",
    "set.level",
    "open-cover",
    "lock",
    "add_item",
    "timer",
];
const WORDS: &[&str] = &[
    "turn",
    "on",
    "off",
    "the",
    "kitchen",
    "lamp",
    "desk",
    "lights",
    "all",
    "and",
    "set",
    "to",
    "21",
    "degrees",
    "open",
    "blinds",
    "lock",
    "door",
    "add",
    "milk",
    "Küchenlicht",
    "an",
    "why",
    "not",
    "\"",
    "5",
    "percent",
    "everything",
    "<|im_end|>",
    "is",
    "heating",
    "]",
    "now",
];

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `count`, by xorshift.
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % u64::try_from(count).unwrap()).unwrap()
    }

    fn of(&mut self, list: &'static [&'static str]) -> &'static str {
        list[self.below(list.len())]
    }

    fn property(&mut self) -> Value {
        match self.below(6) {
            0 => json!({"type": "string"}),
            1 => json!({"type": "boolean"}),
            2 => json!({"type": "string", "enum": ["red", "warm white", "say \"x\""]}),
            3 => json!({"type": "integer", "enum": [3, 30, -300]}),
            4 => json!({"type": "number", "minimum": 5.5, "maximum": 30}),
            _ => {
                let least = i64::try_from(self.below(200)).unwrap() - 100;
                json!({"type": "integer", "minimum": least, "maximum": least + 120})
            }
        }
    }

    fn tool(&mut self, name: &str) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for name in ["level", "mode", "item"] {
            if self.below(3) == 0 {
                properties.insert(name.to_owned(), self.property());
                if self.below(2) == 0 {
                    required.push(name);
                }
            }
        }
        let parameters = json!({"type": "object", "properties": properties, "required": required});
        let examples = [format!("{name} the {{target}}"), format!("please {name}")];
        let mut tool = json!({"name": name, "parameters": parameters, "examples": examples});
        if self.below(4) > 0 {
            let kinds = &KINDS[..self.below(KINDS.len() + 1)];
            tool["acts_on"] = json!({ "kinds": kinds });
        }
        tool
    }

    pub(super) fn home(&mut self) -> Value {
        let count = 1 + self.below(TOOLS.len());
        let tools: Vec<Value> = TOOLS[..count].iter().map(|name| self.tool(name)).collect();
        let count = self.below(16);
        let targets: Vec<Value> = (0..count)
            .map(|n| {
                let (name, kind) = (self.of(NAMES), self.of(KINDS));
                let mut target = json!({"id": format!("t.{n}"), "name": name, "kind": kind});
                if self.below(3) > 0 {
                    target["area"] = json!(self.of(ROOMS));
                }
                target
            })
            .collect();
        json!({"tools": tools, "targets": targets})
    }

    pub(super) fn utterance(&mut self) -> String {
        let words: Vec<&str> = (0..=self.below(9)).map(|_| self.of(WORDS)).collect();
        words.join(" ")
    }
}
