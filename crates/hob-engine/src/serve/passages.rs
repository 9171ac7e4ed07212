//! The open text, and steps that read its passages: each is answered before anything else is done, as
//! nobody else is at work where texts are read.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use hob_ipc::message::FailureCode;
use hob_ipc::passages::{Apart, Cut, OpenText, OpenTokens, Piece, ROWS_MAX, ReadText, Scores};
use hob_ipc::passages::{TOKEN_PASSAGES_MAX, TOKENS_MAX, TextOpened, TextRead, TokenPassage};
use hob_ipc::{EngineEvent, RequestId, shared};

use super::{Failure, Model, Row, Server, Step, cancelled, sequence_id};
use crate::inbox::Ends;
use crate::passages::{self, Passages, PieceTokens};
use crate::prompt::Token;
use crate::raw;
use crate::score::Next;
use crate::slots;

/// The open text.
#[derive(Debug)]
pub(super) struct Text {
    passages: Passages,
    /// The tokens whose scores are written, in their order; empty for all.
    kept: Vec<Token>,
    /// The passage under way. Whatever else is done ends it, as that may take its sequence.
    at: Option<At>,
}

/// How far a passage is.
#[derive(Clone, Copy, Debug)]
struct At {
    passage: usize,
    /// Its sequence.
    place: usize,
    /// Tokens that the sequence holds.
    seen: usize,
    /// Rows that were scored.
    scored: usize,
}

/// What is done with scores, with the memory for it.
enum Exchange {
    Drop,
    Write(OwnedFd, Vec<u8>),
    /// The reference's scores, and where the next row's begin.
    Compare(File, u64),
    /// The sums of all tokens' probabilities.
    Expect(OwnedFd, Vec<f64>),
}

fn failure(message: impl std::fmt::Display) -> Failure {
    Failure::new(FailureCode::Text, message)
}

impl<M: Model> Server<'_, M> {
    /// Ends the passage under way, if another command comes between its steps.
    pub(super) fn leave_passage(&mut self) {
        if let Some(text) = &mut self.text {
            text.at = None;
        }
    }

    pub(super) fn open_text(
        &mut self,
        request: OpenText,
        text: io::Result<String>,
    ) -> io::Result<()> {
        self.pulse.set_working(true);
        self.pulse.advance();
        let opened = text
            .map_err(|error| failure(format!("the text can't be read: {error}")))
            .and_then(|text| self.cut(&text, request.cut));
        self.opened(request.id, opened, Vec::new())
    }

    pub(super) fn open_tokens(&mut self, request: OpenTokens) -> io::Result<()> {
        let OpenTokens { id, passages, kept } = request;
        let tokens: usize = passages.iter().map(|passage| passage.tokens.len()).sum();
        let opened = if passages.len() > TOKEN_PASSAGES_MAX || tokens.max(kept.len()) > TOKENS_MAX {
            Err(failure("there are too many tokens, or passages of them"))
        } else {
            self.taken(passages)
        };
        self.opened(id, opened, kept)
    }

    /// Passages of tokens that were made elsewhere. One that the vocabulary lacks fails when it is read.
    fn taken(&self, passages: Vec<TokenPassage>) -> Result<Passages, Failure> {
        let begins = self.model.text("")?.first().copied();
        let pieces = passages.into_iter().map(|TokenPassage { before, tokens }| {
            let (before, scored) = tokens.split_at(tokens.len().min(before as usize));
            let first = begins.filter(|_| !before.is_empty());
            let before = first.into_iter().chain(before.iter().copied());
            (before.collect(), scored.to_vec())
        });
        Passages::pieces(pieces, self.limits.n_ctx).map_err(failure)
    }

    /// Tells what became of opening a text, and keeps it in place of the one before.
    fn opened(
        &mut self,
        id: RequestId,
        opened: Result<Passages, Failure>,
        kept: Vec<Token>,
    ) -> io::Result<()> {
        self.text = None;
        match opened {
            Ok(passages) => {
                let opened = TextOpened {
                    id,
                    passages: slots::count(passages.count()),
                    tokens: slots::count(passages.tokens()),
                    digest: passages.digest(),
                };
                let at = None;
                self.text = Some(Text { passages, kept, at });
                self.pulse.advance();
                self.events.send(EngineEvent::TextOpened(opened))
            }
            Err(failure) => self.report(id, failure),
        }
    }

    fn cut(&self, text: &str, cut: Cut) -> Result<Passages, Failure> {
        let n_ctx = self.limits.n_ctx;
        let passages = match cut {
            Cut::Windows { tokens } => {
                let begins = self.model.text("")?.first().copied();
                Passages::windows(self.model.text(text)?, tokens, begins, n_ctx)
            }
            Cut::Pieces(pieces) => Passages::pieces(self.piece_tokens(text, &pieces)?, n_ctx),
        };
        passages.map_err(failure)
    }

    fn piece_tokens(&self, text: &str, pieces: &[Piece]) -> Result<Vec<PieceTokens>, Failure> {
        let mut rest = text;
        let mut take = |bytes: u32| {
            let (now, later) = rest.split_at_checked(bytes as usize)?;
            rest = later;
            Some(now)
        };
        let mut all = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let Some(texts) = take(piece.before).zip(take(piece.scored)) else {
                return Err(failure("the pieces are not the text's"));
            };
            let (before, scored) = texts;
            all.push((self.model.text(before)?, self.model.continuation(scored)?));
            self.pulse.advance();
        }
        Ok(all)
    }

    pub(super) fn read_text(
        &mut self,
        request: ReadText,
        memory: Option<OwnedFd>,
    ) -> io::Result<()> {
        self.pulse.set_working(true);
        self.pulse.advance();
        match self.read_passage(request, memory) {
            Ok(read) => self.events.send(EngineEvent::TextRead(read)),
            Err(failure) => {
                self.leave_passage();
                self.report(request.id, failure)
            }
        }
    }

    fn read_passage(
        &mut self,
        request: ReadText,
        memory: Option<OwnedFd>,
    ) -> Result<TextRead, Failure> {
        let mut at = self.find(request)?;
        let mut exchange = Exchange::new(request.scores, memory)?;
        let mut read = TextRead {
            id: request.id,
            rows: 0,
            left: 0,
            log_probability: 0.0,
            bytes: 0,
            apart: matches!(exchange, Exchange::Compare(..)).then(Apart::default),
            others: None,
        };
        let text = self
            .text
            .as_ref()
            .ok_or_else(|| failure("no text is open"))?;
        let whole = text.passages.scored_rows(at.passage).unwrap_or(0);
        let wanted = (request.rows.min(ROWS_MAX) as usize).min(whole - at.scored);
        while (read.rows as usize) < wanted {
            let rows = self.next_rows(&at, wanted - read.rows as usize)?;
            self.inbox.interrupt().begin(Some(Ends {
                request: Some(request.id),
                arrival: None,
            }));
            let decoded = self.model.decode(&rows);
            self.pulse.advance();
            match decoded? {
                Step::Done => {}
                Step::Stopped => return Err(cancelled()),
            }
            self.look_at(&rows, &at, &mut read, &mut exchange)?;
            at.seen += rows.len();
        }
        at.scored += wanted;
        read.left = slots::count(whole - at.scored);
        exchange.finish()?;
        if let Some(text) = &mut self.text {
            text.at = Some(at);
        }
        Ok(read)
    }

    /// Where the request reads on.
    fn find(&mut self, request: ReadText) -> Result<At, Failure> {
        let text = self
            .text
            .as_ref()
            .ok_or_else(|| failure("no text is open"))?;
        let (passage, from) = (request.passage as usize, request.from as usize);
        let whole = text.passages.scored_rows(passage);
        if request.rows == 0 || whole.is_none_or(|whole| from >= whole) {
            return Err(failure("there is no such row of the text"));
        }
        if from > 0 {
            let at = text
                .at
                .filter(|at| (at.passage, at.scored) == (passage, from));
            return at.ok_or_else(|| failure("the passage was left meanwhile"));
        }
        self.check_room()?;
        let place = self.place(None, &[])?.sequence;
        self.model.forget(sequence_id(place));
        Ok(At {
            passage,
            place,
            seen: 0,
            scored: 0,
        })
    }

    fn next_rows(&self, at: &At, wanted: usize) -> Result<Vec<Row>, Failure> {
        let batch_max = self.limits.n_batch as usize;
        let sequence = sequence_id(at.place);
        let rows = self.text.as_ref().map(|text| {
            text.passages
                .rows(at.passage, at.seen, wanted, batch_max, sequence)
        });
        rows.filter(|rows| !rows.is_empty())
            .ok_or_else(|| failure("there is no such row of the text"))
    }

    /// Takes what a step computed.
    fn look_at(
        &mut self,
        rows: &[Row],
        at: &At,
        read: &mut TextRead,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        for (number, row) in rows.iter().enumerate().filter(|(_, row)| row.logits) {
            let text = self.text.as_ref();
            let token =
                text.and_then(|text| text.passages.next_token(at.passage, row.position as usize));
            let token = token.ok_or_else(|| failure("there is no such row of the text"))?;
            let scores = self.model.scores(number)?;
            read.log_probability += Next::new(scores)?.log_probability(&[token]);
            let kept = text.map_or(&[][..], |text| &text.kept);
            let apart = if kept.is_empty() || !matches!(exchange, Exchange::Write(..)) {
                exchange.take(scores)?
            } else {
                let (scores, others) = passages::of_kept(scores, kept)?;
                *read.others.get_or_insert_default() += others;
                exchange.take(&scores)?
            };
            if let Some((divergence, agree)) = apart
                && let Some(apart) = &mut read.apart
            {
                apart.divergence += divergence;
                apart.agree += u32::from(agree);
            }
            read.rows += 1;
            self.bytes.clear();
            self.model.piece(token, &mut self.bytes);
            read.bytes += self.bytes.len() as u64;
        }
        Ok(())
    }
}

impl Exchange {
    fn new(scores: Scores, memory: Option<OwnedFd>) -> Result<Self, Failure> {
        match (scores, memory) {
            (Scores::Drop, _) => Ok(Self::Drop),
            (Scores::Write, Some(memory)) => Ok(Self::Write(memory, Vec::new())),
            (Scores::Compare, Some(memory)) => Ok(Self::Compare(File::from(memory), 0)),
            (Scores::Expect, Some(memory)) => Ok(Self::Expect(memory, Vec::new())),
            (Scores::Write | Scores::Compare | Scores::Expect, None) => {
                Err(failure("no memory came for the scores"))
            }
        }
    }

    /// Takes one row's scores: how far they are from the reference's.
    fn take(&mut self, scores: &[f32]) -> Result<Option<(f64, bool)>, Failure> {
        match self {
            Self::Drop => Ok(None),
            Self::Write(_, bytes) => {
                bytes.extend(scores.iter().flat_map(|score| score.to_le_bytes()));
                Ok(None)
            }
            Self::Compare(memory, at) => {
                let reference = shared::floats(memory, scores.len(), *at).map_err(|error| {
                    failure(format!("the reference's scores can't be read: {error}"))
                })?;
                *at += size_of_val(scores) as u64;
                passages::apart(&reference, scores).map(Some)
            }
            Self::Expect(_, sums) => {
                sums.resize(scores.len(), 0.0);
                passages::expect(scores, sums).map(|()| None)
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        let (memory, bytes) = match self {
            Self::Drop | Self::Compare(..) => return Ok(()),
            Self::Write(memory, bytes) => (memory, bytes),
            Self::Expect(memory, sums) => (memory, rounded(&sums)),
        };
        raw::fill(memory, &[&bytes])
            .map_err(|error| failure(format!("the scores can't be handed over: {error}")))
    }
}

/// The bytes of sums, as floats of 32 bits.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a sum of a step's probabilities is no more than its rows"
)]
fn rounded(sums: &[f64]) -> Vec<u8> {
    let rounded = sums.iter().map(|sum| *sum as f32);
    rounded.flat_map(f32::to_le_bytes).collect()
}
