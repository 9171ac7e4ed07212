//! Likelihoods in the decode loop: a prompt is read as an answer's is, then what may follow it, in
//! turns with everybody else.

use std::io;
use std::time::{Duration, Instant};

use hob_ipc::message::{FailureCode, Finished};
use hob_ipc::score::{SINGLE_TOKENS_MAX, Score, ScoreFailure, ScorePart};
use hob_ipc::{EngineEvent, RequestId};

use super::{Failure, Model, Row, Server, Step, cancelled, sequence_id};
use crate::inbox::Ends;
use crate::memories::{Memory, Reader};
use crate::recall;
use crate::score::{Job, Part, Walk, Wanted};
use crate::shelf::Owner;
use crate::slots::{self, Turn};

/// Requests for likelihoods under way.
#[derive(Debug, Default)]
pub(super) struct Jobs(Vec<Job>);

impl Jobs {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the sequence at `place` is at work for one.
    pub(super) fn hold(&self, place: usize) -> bool {
        self.0.iter().any(|job| job.place == place)
    }

    /// Whose turn it is, and where it stands among others.
    pub(super) fn next(&self, now: Instant) -> Option<(Turn, usize)> {
        let turns = self
            .0
            .iter()
            .map(|job| (job.urgency(now), job.turn, job.arrival));
        turns.zip(0..).min()
    }
}

fn failure(code: ScoreFailure, message: impl std::fmt::Display, tokens: usize) -> Failure {
    Failure {
        prompt_tokens: slots::count(tokens),
        ..Failure::new(FailureCode::Score(code), message)
    }
}

impl<M: Model> Server<'_, M> {
    pub(super) fn start_scoring(&mut self, request: &Score, received: Instant) -> io::Result<()> {
        let id = request.id;
        self.pulse.set_working(true);
        self.pulse.advance();
        let admitted = self.admit_scoring(request, received);
        self.admitted(id, admitted)
    }

    fn admit_scoring(&mut self, request: &Score, received: Instant) -> Result<(), Failure> {
        self.check_room()?;
        let wanted = Wanted {
            ends: request.ends,
            single_tokens: request.single_tokens,
        };
        let parts = (0..).zip(&request.parts);
        let parts = parts.map(|(part, asked)| self.part(part, asked, wanted));
        let mut walk = Walk::new(parts.collect::<Result<_, _>>()?, wanted);
        let owner = request.cache_owner.map(Owner::User);
        let reader = owner.map(|owner| Reader { owner, exact: true });
        let place = self.place(reader, &walk.beginning())?;
        let (place, cached) = (place.sequence, place.cached);
        walk.begin(cached);
        self.arrivals += 1;
        self.scorings.0.push(Job {
            id: request.id,
            owner: request.cache_owner,
            class: request.class,
            received,
            turn: self.turns.saturating_sub(1),
            arrival: self.arrivals,
            place,
            walk,
            seen: cached,
            exact: cached,
            owed: Duration::ZERO,
            computed: 0,
            passes: 0,
        });
        Ok(())
    }

    /// Tokens of one part, within bounds.
    fn part(&self, part: u32, asked: &ScorePart, wanted: Wanted) -> Result<Part, Failure> {
        let n_ctx = self.limits.n_ctx as usize;
        let empty = || failure(ScoreFailure::Empty { part }, "there are no tokens", 0);
        let too_long = |tokens: usize| {
            let message = format!("part {part} has {tokens} tokens or more, the context {n_ctx}");
            failure(ScoreFailure::TooLong { part }, message, tokens)
        };
        let overflow = |refused: Failure| match refused.code {
            FailureCode::ContextOverflow => too_long(refused.prompt_tokens as usize),
            _ => refused,
        };
        let prompt = self.model.tokenize(&asked.prompt).map_err(overflow)?;
        let texts = asked.continuations.iter().map(|text| {
            let tokens = self.model.continuation(text).map_err(overflow);
            self.pulse.advance();
            tokens
        });
        let continuations = texts.collect::<Result<Vec<_>, _>>()?;
        if prompt.is_empty() || continuations.is_empty() || continuations.iter().any(Vec::is_empty)
        {
            return Err(empty());
        }
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        if prompt.len() + longest > n_ctx {
            return Err(too_long(prompt.len() + longest));
        }
        let tokens = continuations.iter().map(Vec::len).sum();
        if wanted.single_tokens && tokens > SINGLE_TOKENS_MAX {
            let message = format!("part {part} has {tokens} tokens to be told one by one");
            let code = ScoreFailure::TooManyTokens { part };
            return Err(failure(code, message, tokens));
        }
        Ok(Part {
            prompt,
            continuations,
        })
    }

    /// Computes one step for one request: as long a one as for a prompt, and it ends for whoever a
    /// prompt's does.
    pub(super) fn score(&mut self, at: usize) -> io::Result<()> {
        let started = Instant::now();
        let alone = self.under_way() == 1;
        self.turns += 1;
        let job = &mut self.scorings.0[at];
        job.turn = self.turns;
        let long = alone && job.owed.is_zero() && self.limits.goes_back;
        self.inbox.interrupt().begin(Some(Ends {
            request: Some(job.id),
            arrival: long.then(|| job.urgency(started)),
        }));
        let pace = self.paces.of(long);
        let batch_max = self.limits.n_batch as usize;
        let rows = job.rows(sequence_id(job.place), pace.chunk(), batch_max);
        let decoded = self.model.decode(&rows);
        let took = started.elapsed();
        self.pulse.advance();
        match decoded {
            Ok(Step::Done) => {
                pace.learn(rows.len(), took);
                job.owed = job.owed.saturating_sub(took);
                self.have_scored(at, &rows)
            }
            Ok(Step::Stopped) if self.inbox.interrupt().is_cancelled(job.id) => {
                self.fail_scoring(at, cancelled())
            }
            Ok(Step::Stopped) => {
                job.owed += took;
                let seen = job.seen;
                self.cut_scoring(at, seen);
                Ok(())
            }
            Err(failure) => self.fail_scoring(at, failure),
        }
    }

    /// Takes what a step computed.
    fn have_scored(&mut self, at: usize, rows: &[Row]) -> io::Result<()> {
        let job = &mut self.scorings.0[at];
        let looked_at = rows.iter().enumerate().filter(|(_, row)| row.logits);
        let mut each = looked_at.map(|(number, row)| {
            let scores = self.model.scores(number)?;
            let ends = self.model.end_tokens();
            job.walk.take(row.position as usize, scores, ends)
        });
        if let Err(failure) = each.try_for_each(|taken| taken) {
            return self.fail_scoring(at, failure);
        }
        job.have_read(rows.len());
        self.go_on_scoring(at)
    }

    /// Makes the model know of a sequence the first `to` tokens alone; or nothing, and it reads all
    /// again.
    fn cut_scoring(&mut self, at: usize, to: usize) {
        let job = &mut self.scorings.0[at];
        let sequence = sequence_id(job.place);
        if to > 0 && self.model.keep(sequence, to) {
            job.cut(to);
        } else {
            self.model.forget(sequence);
            job.cut(0);
        }
    }

    /// Goes on to the next path that has something to read, or ends the request.
    fn go_on_scoring(&mut self, at: usize) -> io::Result<()> {
        loop {
            let job = &mut self.scorings.0[at];
            if job.seen < job.walk.target() {
                return Ok(());
            }
            let common = job.walk.next_path();
            if job.walk.is_done() {
                // The last path's tokens are there for whoever remembers them.
                break;
            }
            if common < job.seen {
                self.cut_scoring(at, common);
            }
        }
        let Some(job) = self.release_scoring(at) else {
            return Ok(());
        };
        let tokens = job.walk.tokens();
        let finished = Finished {
            cached_tokens: tokens.saturating_sub(job.computed),
            passes: job.passes,
            ..Finished::without_answer(job.id, tokens, slots::micros(job.received.elapsed()))
        };
        for scored in job.walk.scored(job.id) {
            self.events.send(EngineEvent::Scored(scored))?;
        }
        self.events.send(EngineEvent::Finished(finished))
    }

    /// Frees the sequence, which remembers what was computed as a prompt's beginning is.
    fn release_scoring(&mut self, at: usize) -> Option<Job> {
        if at >= self.scorings.0.len() {
            return None;
        }
        let job = self.scorings.0.swap_remove(at);
        let memory = job.owner.map(|uid| Memory {
            owner: Owner::User(uid),
            tokens: job.walk.held(job.exact),
            prompt_len: job.exact,
            read_len: job.exact,
        });
        recall::remember(self.model, &mut self.memories, job.place, job.exact, memory);
        Some(job)
    }

    fn fail_scoring(&mut self, at: usize, failure: Failure) -> io::Result<()> {
        match self.release_scoring(at) {
            Some(job) => self.report(job.id, failure),
            None => Ok(()),
        }
    }

    /// Ends a request for likelihoods; false if there is none.
    pub(super) fn cancel_scoring(&mut self, id: RequestId) -> io::Result<bool> {
        let at = self.scorings.0.iter().position(|job| job.id == id);
        let Some(at) = at else {
            return Ok(false);
        };
        self.fail_scoring(at, cancelled())?;
        Ok(true)
    }
}
