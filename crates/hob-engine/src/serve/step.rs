//! The server's steps: what is written and read next, and what becomes of the model's choices.

use std::io;
use std::time::Instant;

use hob_api::event::FinishReason;
use hob_ipc::EngineEvent;
use hob_ipc::message::Drafts;

use super::{Failure, Model, PREFILL_REPORT_INTERVAL, Server, Step, cancelled, sequence_id};
use crate::drafts::{self, DRAFT_MAX};
use crate::inbox::Ends;
use crate::prompt::Token;
use crate::slots::{self, Plan, Share, Turn};
use crate::text::Answer;

impl<M: Model> Server<'_, M> {
    /// Writes a token or more of every answer, then reads a piece of one prompt or embedding.
    pub(super) fn step(&mut self) -> io::Result<()> {
        self.write()?;
        self.events.flush()?;
        self.read_next()
    }

    /// Computes a step for the most urgent of those whose tokens are to be read, in turns among
    /// equals: a piece of a prompt, of what embeddings are made of, or of what likelihoods are asked
    /// of.
    fn read_next(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let prompt = slots::next_to_read(&self.slots, now);
        let embedding = self.embeddings.next(now);
        let scoring = self.scorings.next(now);
        let turns = [prompt, embedding, scoring].into_iter().flatten();
        let first = turns.map(|(turn, _)| turn).min();
        let at = |next: Option<(Turn, usize)>| {
            next.filter(|(turn, _)| Some(*turn) == first)
                .map(|(_, at)| at)
        };
        match (at(embedding), at(scoring), at(prompt)) {
            (Some(job), _, _) => self.embed(job),
            (_, Some(job), _) => self.score(job),
            (_, _, Some(place)) => self.read(place),
            _ => Ok(()),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let plan = self.plan_writing();
        if plan.rows.is_empty() {
            return Ok(());
        }
        let alone = slots::alone(&self.slots);
        let ends = alone.map(|request| Ends {
            request: Some(request),
            arrival: None,
        });
        self.inbox.interrupt().begin(ends);
        let decoded = self.model.decode(&plan.rows);
        self.pulse.advance();
        let failure = match decoded {
            Ok(Step::Done) => None,
            // When the cancel arrives as a command, there is nothing left to end.
            Ok(Step::Stopped) => Some(cancelled()),
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failure {
            for share in &plan.shares {
                self.fail(share.slot, failure.clone())?;
            }
            return Ok(());
        }
        for share in &plan.shares {
            self.written(share, &plan)?;
        }
        let drafted = plan.drafted();
        // What had to follow is computed with the rest, and says nothing about drafts.
        if alone.is_some() && plan.rows.len() == plan.shares.len() + drafted {
            self.costs.learn(drafted, started.elapsed());
        }
        Ok(())
    }

    fn plan_writing(&mut self) -> Plan {
        let alone = slots::alone(&self.slots).is_some();
        let mut drafts: Vec<_> = (0..self.slots.len())
            .map(|place| self.draft(place, alone))
            .collect();
        // Others do not wait longer for what must follow than for a piece of a prompt.
        let batch_max = self.limits.n_batch as usize;
        let rows_max = if alone {
            batch_max
        } else {
            let piece = self.paces.of(false).chunk();
            piece.max(self.slots.len()).min(batch_max)
        };
        let plan = slots::writing(&self.slots, rows_max, |place, room| {
            let mut draft = std::mem::take(&mut drafts[place]);
            draft.truncate(room);
            draft
        });
        for share in &plan.shares {
            if let Some(slot) = &mut self.slots[share.slot] {
                slot.acceptance.begin(share.drafted);
            }
        }
        plan
    }

    /// What the answer at `place` may go on with.
    fn draft(&mut self, place: usize, alone: bool) -> Vec<Token> {
        let mode = if self.limits.goes_back {
            self.drafts
        } else {
            Drafts::Off
        };
        let Some(slot) = self.slots[place].as_mut().filter(|slot| slot.drafts) else {
            return Vec::new();
        };
        // Several answers fill a step without drafts.
        let wanted = mode == Drafts::Always || mode == Drafts::Auto && alone;
        if !wanted || slot.to_read() > 0 {
            return Vec::new();
        }
        let Some(found) = drafts::lookup(&slot.tokens) else {
            return Vec::new();
        };
        let promising = slot.acceptance.length(&self.costs, found);
        let length = match mode {
            Drafts::Always => DRAFT_MAX,
            _ => promising,
        };
        // A token is chosen after the last drafted one, too.
        let answer = slot.max_tokens.saturating_sub(slot.answered() + 1) as usize;
        let context = (self.limits.n_ctx as usize).saturating_sub(slot.tokens.len() + 1);
        found.draft(&slot.tokens, length.min(answer).min(context))
    }

    /// Takes what a step wrote for one answer: the token after its last one, and those after each
    /// drafted one that holds.
    fn written(&mut self, share: &Share, plan: &Plan) -> io::Result<()> {
        let place = share.slot;
        if let Some(slot) = &mut self.slots[place] {
            let written = share.rows - share.drafted;
            slot.seen += written;
            slot.fresh -= written;
            slot.passes = slot.passes.saturating_add(1);
        }
        let Some(first) = share.logits else {
            return Ok(());
        };
        let draft = &plan.rows[first + 1..=first + share.drafted];
        let mut held = 0;
        loop {
            let drafted = draft.get(held).map(|row| row.token);
            let holds = self.choose(place, first + held, drafted)?;
            let Some(slot) = &mut self.slots[place] else {
                return Ok(());
            };
            if drafted.is_none() {
                return Ok(());
            }
            if !holds {
                slot.acceptance.fail(held);
                self.go_back(place);
                return Ok(());
            }
            held += 1;
        }
    }

    /// Drops what the model has seen of a draft that does not hold.
    fn go_back(&mut self, place: usize) {
        self.restore(place);
        if self.slots[place]
            .as_ref()
            .is_some_and(|slot| slot.seen == 0)
        {
            // It can't, against what it said: drafts would have it read everything again and again.
            self.drafts = Drafts::Off;
        }
    }

    /// Makes the model know of a slot's sequence what the slot says that it has seen; or nothing,
    /// and it reads all again.
    fn restore(&mut self, place: usize) {
        let Some(slot) = &mut self.slots[place] else {
            return;
        };
        let sequence = sequence_id(place);
        if slot.seen == 0 || !self.model.keep(sequence, slot.seen) {
            self.model.forget(sequence);
            slot.seen = 0;
            slot.cached = 0;
        }
    }

    fn read(&mut self, place: usize) -> io::Result<()> {
        let started = Instant::now();
        let Some(slot) = &self.slots[place] else {
            return Ok(());
        };
        // A long step may be lost to who arrives. Who lost one takes short ones until as much is
        // computed, so that no number of arrivals keeps it from going on.
        let alone = slots::alone(&self.slots).is_some() && self.scorings.len() == 0;
        let long = alone && slot.owed.is_zero() && self.limits.goes_back;
        self.inbox.interrupt().begin(Some(Ends {
            request: Some(slot.id),
            arrival: long.then(|| slot.urgency(started)),
        }));
        let speed = self.paces.of(long);
        let batch_max = self.limits.n_batch as usize;
        let plan = slots::reading(&self.slots, place, speed.chunk(), batch_max);
        let decoded = self.model.decode(&plan.rows);
        let took = started.elapsed();
        self.pulse.advance();
        self.turns += 1;
        let id = slot.id;
        if let Some(slot) = &mut self.slots[place] {
            slot.turn = self.turns;
        }
        match decoded {
            Ok(Step::Done) => {
                speed.learn(plan.rows.len(), took);
                if let Some(slot) = &mut self.slots[place] {
                    slot.owed = slot.owed.saturating_sub(took);
                }
                self.have_read(&plan, started + took)
            }
            Ok(Step::Stopped) if self.inbox.interrupt().is_cancelled(id) => {
                self.fail(place, cancelled())
            }
            Ok(Step::Stopped) => {
                if let Some(slot) = &mut self.slots[place] {
                    slot.owed += took;
                }
                self.restore(place);
                Ok(())
            }
            Err(failure) => self.fail(place, failure),
        }
    }

    /// Notes what the model has read, reports progress with long prompts, and begins the answer
    /// after a prompt's end.
    fn have_read(&mut self, plan: &Plan, now: Instant) -> io::Result<()> {
        for share in &plan.shares {
            let Some(slot) = &mut self.slots[share.slot] else {
                continue;
            };
            slot.seen += share.rows;
            if let Some(row) = share.logits {
                slot.passes = slot.passes.saturating_add(1);
                let begins = slot.prompt_done.is_none();
                slot.prompt_done.get_or_insert(now);
                let answer = slot.prompt_len;
                if begins && !self.say(share.slot, answer)? {
                    continue;
                }
                self.choose(share.slot, row, None)?;
            } else if now.saturating_duration_since(slot.reported) >= PREFILL_REPORT_INTERVAL
                && slot.prompt_done.is_none()
            {
                slot.reported = now;
                self.events.send(EngineEvent::Prefill {
                    id: slot.id,
                    processed: slots::count(slot.seen).min(slot.prompt_tokens()),
                    total: slot.prompt_tokens(),
                })?;
            }
        }
        Ok(())
    }

    /// Chooses the token after a row, and takes those that must follow it. Whether it is the drafted
    /// one, which the model has seen already, and the answer goes on.
    fn choose(&mut self, place: usize, row: usize, drafted: Option<Token>) -> io::Result<bool> {
        let Some(slot) = &mut self.slots[place] else {
            return Ok(false);
        };
        let chosen = slot
            .allowed()
            .map_err(Failure::from)
            .and_then(|allowed| self.model.sample(row, &mut slot.sampler, allowed.as_ref()));
        let token = match chosen {
            Ok(token) => token,
            Err(failure) => return self.fail(place, failure).map(|()| false),
        };
        let holds = drafted == Some(token);
        let from = slot.tokens.len();
        if holds {
            slot.seen += 1;
            slot.acceptance.hold();
        } else {
            slot.fresh = 1;
        }
        if self.model.is_end(token) {
            slot.tokens.push(token);
            return self.finish(place, FinishReason::Stop).map(|()| false);
        }
        // Behind a draft that holds comes another row, whose choice the grammar bounds.
        if let Err(error) = slot.push(token, !holds, self.limits.n_ctx as usize) {
            return self.fail(place, error.into()).map(|()| false);
        }
        self.say(place, from).map(|goes_on| goes_on && holds)
    }

    /// Says the answer's tokens from the one at `from` on, and ends it where it ends. Whether it goes
    /// on.
    fn say(&mut self, place: usize, from: usize) -> io::Result<bool> {
        let Some(slot) = &mut self.slots[place] else {
            return Ok(false);
        };
        for at in from..slot.tokens.len() {
            self.bytes.clear();
            let token = slot.tokens[at];
            let grammar = slot.grammar.as_ref();
            match grammar.and_then(|grammar| grammar.mark(token)) {
                Some(mark) => self.bytes.extend_from_slice(mark.as_bytes()),
                None => self.model.piece(token, &mut self.bytes),
            }
            let step = slot.answer.push(&self.bytes);
            self.events.send_text(slot.id, &step.text)?;
            if step.stopped {
                // The text that is left is the stop string's.
                slot.answer = Answer::default();
                return self.finish(place, FinishReason::Stop).map(|()| false);
            }
        }
        let full = slot.tokens.len() >= self.limits.n_ctx as usize;
        if slot.is_complete() {
            self.finish(place, FinishReason::Stop)?;
        } else if slot.answered() >= slot.max_tokens || full {
            self.finish(place, FinishReason::Length)?;
        } else {
            return Ok(true);
        }
        Ok(false)
    }
}
