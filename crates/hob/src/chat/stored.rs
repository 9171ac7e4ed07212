//! A chat's conversation in the daemon: opened, resumed, renamed, lost.

use hob_api::conversation::{ConversationFields, Kept};

use super::Chat;
use super::conversation::Conversation;
use crate::clean::clean;
use crate::client::ClientError;
use crate::conversations::{find, table, title};
use crate::failure::Failure;
use crate::output::Style;
use crate::render::counted;

impl Chat<'_> {
    /// Opens a conversation in the daemon before the first question. Without one the chat goes on
    /// in this terminal alone.
    pub(super) fn open_conversation(&mut self) {
        if !self.storing || self.conversation.id.is_some() {
            return;
        }
        let fields = ConversationFields {
            name: None,
            system: self.conversation.system.clone(),
        };
        match self
            .runtime
            .block_on(self.client.open_conversation(&fields))
        {
            Ok(opened) => self.conversation.opened(opened.id),
            Err(error @ ClientError::Api(_)) => {
                self.storing = false;
                let why = Failure::from(error);
                self.output
                    .remark(&format!("(hobd does not store this chat: {why})"));
            }
            // The question finds out, and says it better.
            Err(_) => {}
        }
    }

    /// Whether the daemon has the conversation no more, or can't read it; the chat then goes on in
    /// this terminal alone.
    pub(super) fn is_lost(&mut self) -> bool {
        let Some(id) = &self.conversation.id else {
            return false;
        };
        match self.runtime.block_on(self.client.transcript(id)) {
            Err(error @ ClientError::Api(_)) => {
                self.storing = false;
                self.conversation.detach();
                let why = Failure::from(error);
                self.output.remark(&format!(
                    "(hobd does not store this chat any more: {why}; it goes on in this terminal)"
                ));
                true
            }
            // A daemon that is gone may come back with it.
            Ok(_) | Err(_) => false,
        }
    }

    /// Says what was not stored and what was left out.
    pub(super) fn tell_kept(&mut self, kept: Option<&Kept>) {
        let Some(kept) = kept else { return };
        if kept.stored {
            self.conversation.all_stored();
            if self.conversation.len() == 1 {
                self.complete_conversations();
            }
        } else {
            let why = kept.store_problem.as_deref().unwrap_or("no reason given");
            self.output
                .remark(&format!("(hobd has not stored this: {why})"));
        }
        if kept.dropped_turns > 0 {
            let turns = counted(kept.dropped_turns.into(), "turn");
            self.output.remark(&format!(
                "(left out, as the context is full: the oldest {turns})"
            ));
        }
    }

    /// Goes on with the stored conversation `name`, or the one last added to.
    pub(super) fn resume(&mut self, name: Option<&str>) -> Result<(), Failure> {
        let all = self.runtime.block_on(self.client.conversations())?;
        let found = match name {
            Some(name) => find(&all, name)?,
            None => all.first().ok_or_else(|| {
                Failure::new("hobd keeps no conversation of yours")
                    .hint("`hob chat` starts one, and hobd stores it")
            })?,
        };
        let transcript = self.runtime.block_on(self.client.transcript(&found.id))?;
        self.conversation = Conversation::stored(transcript);
        self.storing = true;
        self.last = None;
        let turns = counted(self.conversation.len() as u64, "turn");
        self.output
            .remark(&format!("(going on with {}: {turns})", title(found)));
        if let Some((question, answer)) = self.conversation.last() {
            let text = format!("> {}", clean(question).trim());
            let text = Style::Dim.paint(&text, self.output.color()).into_owned();
            let text = format!("{text}\n{}\n\n", clean(answer).trim());
            self.output.write(&text)?;
        }
        Ok(())
    }

    pub(super) fn list_conversations(&mut self) -> Result<(), Failure> {
        let all = self.runtime.block_on(self.client.conversations())?;
        if all.is_empty() {
            self.output.remark("(hobd keeps no conversation of yours)");
        }
        let names = all.iter().filter(|c| c.name.is_some()).map(title).collect();
        self.input.set_conversations(names);
        self.output.write(&table(&all))
    }

    pub(super) fn rename(&mut self, name: &str) -> Result<(), Failure> {
        let Some(id) = &self.conversation.id else {
            return Err(Failure::new("hobd does not store this conversation")
                .hint("it begins to with the first question, unless it keeps none"));
        };
        let fields = ConversationFields {
            name: Some(name.to_owned()),
            system: None,
        };
        let renamed = self
            .runtime
            .block_on(self.client.change_conversation(id, &fields))?;
        self.output
            .remark(&format!("(renamed to {})", title(&renamed)));
        self.complete_conversations();
        Ok(())
    }

    /// Fetches the names for tab completion; without them there is just none.
    pub(super) fn complete_conversations(&mut self) {
        if !self.storing {
            return;
        }
        if let Ok(all) = self.runtime.block_on(self.client.conversations()) {
            let names = all.iter().filter(|c| c.name.is_some()).map(title).collect();
            self.input.set_conversations(names);
        }
    }
}
