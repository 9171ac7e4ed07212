//! Embeddings in the decode loop: they take turns with prompts, in steps as short.

use std::io;
use std::time::Instant;

use hob_ipc::embedding::{DIMENSIONS_MAX, Embed, EmbedFailure};
use hob_ipc::message::Finished;
use hob_ipc::{EngineEvent, RequestId};

use super::{Failure, Model, Server, Step, cancelled};
use crate::embed::{Job, ROWS_MAX, failure};
use crate::inbox::Ends;
use crate::slots::{self, CHUNK_MIN, Pace, STEP_SHARED, Turn};

/// Requests for embeddings under way: with the answers under way at most `parallel`.
#[derive(Debug)]
pub(super) struct Jobs {
    jobs: Vec<Job>,
    pace: Pace,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            jobs: Vec::new(),
            pace: Pace::new(STEP_SHARED, CHUNK_MIN, ROWS_MAX),
        }
    }
}

impl Jobs {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whose turn it is, and where it stands among prompts. An input that was begun comes first, as
    /// the context holds nothing else.
    pub(super) fn next(&self, now: Instant) -> Option<(Turn, usize)> {
        let turn = |job: &Job| {
            let urgency = slots::urgency(job.class, job.received, now);
            (urgency, job.turn, job.arrival)
        };
        let jobs = self.jobs.iter().enumerate();
        jobs.min_by_key(|(_, job)| (!job.goes_on(), turn(job)))
            .map(|(at, job)| (turn(job), at))
    }
}

impl<M: Model> Server<'_, M> {
    pub(super) fn start_embedding(&mut self, request: Embed, received: Instant) -> io::Result<()> {
        let id = request.id;
        self.pulse.set_working(true);
        self.pulse.advance();
        let admitted = self.admit_embedding(request, received);
        self.pulse.advance();
        match admitted {
            Ok(mut job) => {
                self.arrivals += 1;
                job.arrival = self.arrivals;
                self.embeddings.jobs.push(job);
                Ok(())
            }
            Err(failure) => self.report(id, failure),
        }
    }

    fn admit_embedding(&mut self, request: Embed, received: Instant) -> Result<Job, Failure> {
        self.check_room()?;
        let pulse = self.pulse;
        let embedder = self.model.embedder()?;
        let model = embedder.dimensions();
        if !(1..=DIMENSIONS_MAX).contains(&model) {
            let message = format!("the model's embeddings have {model} numbers");
            return Err(failure(EmbedFailure::Unsupported, message));
        }
        let wanted = request.dimensions.map(|wanted| wanted as usize);
        if wanted.is_some_and(|wanted| wanted != model) {
            let message = format!("the model's embeddings have {model} numbers");
            let model = u32::try_from(model).unwrap_or(u32::MAX);
            return Err(failure(EmbedFailure::Dimensions { model }, message));
        }
        let tokens = (0..).zip(request.inputs).map(|(index, input)| {
            let tokens = embedder.tokens(input, index);
            pulse.advance();
            tokens
        });
        let inputs = tokens.collect::<Result<_, _>>()?;
        Ok(Job::new(request.id, request.class, received, inputs))
    }

    /// Computes one step for one request.
    pub(super) fn embed(&mut self, at: usize) -> io::Result<()> {
        let started = Instant::now();
        let Jobs { jobs, pace } = &mut self.embeddings;
        let job = &mut jobs[at];
        self.turns += 1;
        job.turn = self.turns;
        let pieces = job.next(pace.chunk());
        let rows = job.rows(&pieces);
        self.inbox.interrupt().begin(Some(Ends {
            request: Some(job.id),
            arrival: None,
        }));
        let made = self.model.embedder().and_then(|embedder| {
            if !job.goes_on() {
                embedder.start_over();
            }
            match embedder.read(&rows)? {
                Step::Done => job.take(&pieces, embedder),
                // When the cancel arrives as a command, there is nothing left to end.
                Step::Stopped => Err(cancelled()),
            }
        });
        self.pulse.advance();
        match made {
            Ok(made) => {
                pace.learn(rows.len(), started.elapsed());
                for embedding in made {
                    self.events.send(EngineEvent::Embedding(embedding))?;
                }
                self.finish_embedding(at)
            }
            Err(failure) => {
                let job = jobs.remove(at);
                self.report(job.id, failure)
            }
        }
    }

    fn finish_embedding(&mut self, at: usize) -> io::Result<()> {
        if !self.embeddings.jobs[at].is_done() {
            return Ok(());
        }
        let job = self.embeddings.jobs.remove(at);
        let took = slots::micros(job.received.elapsed());
        let finished = Finished::without_answer(job.id, job.tokens(), took);
        self.events.send(EngineEvent::Finished(finished))
    }

    /// Ends a request for embeddings, if it has not ended.
    pub(super) fn cancel_embedding(&mut self, id: RequestId) -> io::Result<()> {
        let jobs = &mut self.embeddings.jobs;
        match jobs.iter().position(|job| job.id == id) {
            Some(at) => {
                jobs.remove(at);
                self.report(id, cancelled())
            }
            // It ended before the cancel arrived.
            None => Ok(()),
        }
    }
}
