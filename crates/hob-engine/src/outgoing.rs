//! Events of one step on their way to hobd: they leave together, as waking hobd takes a core from
//! the model, and text that follows text of the same answer joins it.

use std::io;

use hob_ipc::{EngineEvent, RequestId};

use crate::text;
use crate::wire::Events;

/// Longest text in one delta, in bytes: a vocabulary may hold tokens of any length, an event
/// may not.
const DELTA_BYTES_MAX: usize = 8 << 10;
/// Events that wait at most: more leave at once.
const PENDING_MAX: usize = 64;

/// Events that have not left yet.
pub struct Outgoing<'a> {
    events: &'a dyn Events,
    pending: Vec<EngineEvent>,
}

impl std::fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing")
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Outgoing<'a> {
    /// None yet, on their way to `events`.
    pub fn new(events: &'a dyn Events) -> Self {
        Self {
            events,
            pending: Vec::new(),
        }
    }

    /// Puts an event behind those that wait.
    ///
    /// # Errors
    /// The one with which they could not leave.
    pub fn send(&mut self, event: EngineEvent) -> io::Result<()> {
        self.pending.push(event);
        if self.pending.len() < PENDING_MAX {
            return Ok(());
        }
        self.flush()
    }

    /// Puts more text of an answer behind those that wait.
    ///
    /// # Errors
    /// The one with which they could not leave.
    pub fn send_text(&mut self, of: RequestId, delta: &str) -> io::Result<()> {
        let mut rest = delta;
        if let Some(EngineEvent::Delta { id, text }) = self.pending.last_mut()
            && *id == of
        {
            let room = DELTA_BYTES_MAX.saturating_sub(text.len());
            let (now, later) = rest.split_at(text::beginning(rest, room).len());
            text.push_str(now);
            rest = later;
        }
        while !rest.is_empty() {
            let (now, later) = rest.split_at(text::beginning(rest, DELTA_BYTES_MAX).len());
            self.send(EngineEvent::Delta {
                id: of,
                text: now.to_owned(),
            })?;
            rest = later;
        }
        Ok(())
    }

    /// Lets all leave that wait.
    ///
    /// # Errors
    /// The socket's, when hobd is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let sent = self.events.send_all(&self.pending);
        self.pending.clear();
        sent
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Record(Mutex<Vec<Vec<EngineEvent>>>);

    impl Events for Record {
        fn send(&self, event: &EngineEvent) -> io::Result<()> {
            self.send_all(std::slice::from_ref(event))
        }

        fn send_all(&self, events: &[EngineEvent]) -> io::Result<()> {
            self.0.lock().unwrap().push(events.to_vec());
            Ok(())
        }
    }

    #[test]
    fn a_step_leaves_at_once_and_its_text_is_joined() {
        let record = Record::default();
        let mut outgoing = Outgoing::new(&record);
        for (id, text) in [(1, "a"), (1, "b"), (2, "c"), (1, "d")] {
            outgoing.send_text(RequestId(id), text).unwrap();
        }
        outgoing.flush().unwrap();
        outgoing.flush().unwrap();
        let delta = |id, text: &str| EngineEvent::Delta {
            id: RequestId(id),
            text: text.to_owned(),
        };
        let expected = vec![delta(1, "ab"), delta(2, "c"), delta(1, "d")];
        assert_eq!(*record.0.lock().unwrap(), [expected]);
    }

    proptest! {
        #[test]
        fn no_text_is_lost_and_no_delta_too_long(
            texts in proptest::collection::vec((0_u64..3, "[aé🙂]{0,6}", 1_usize..3000), 0..90),
        ) {
            let record = Record::default();
            let mut outgoing = Outgoing::new(&record);
            let mut expected = [const { String::new() }; 3];
            for (id, text, times) in texts {
                let text = text.repeat(times);
                expected[usize::try_from(id).unwrap()] += &text;
                outgoing.send_text(RequestId(id), &text).unwrap();
            }
            outgoing.flush().unwrap();
            let mut got = [const { String::new() }; 3];
            for event in record.0.lock().unwrap().iter().flatten() {
                let EngineEvent::Delta { id, text } = event else {
                    panic!("{event:?}");
                };
                prop_assert!((1..=DELTA_BYTES_MAX).contains(&text.len()));
                got[usize::try_from(id.0).unwrap()] += text;
            }
            prop_assert_eq!(got, expected);
        }
    }
}
