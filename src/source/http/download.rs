//! The whole object by one request, from its first byte to its last (`--spool`): for links that are good for one request
//! only, and for servers without ranges. What arrives is poured into a spool and read from there.
//!
//! ```text
//! GET bytes=0- ─┬─ 206 → the length from Content-Range; if the connection breaks, GET bytes=N- goes on, by the same pin
//!               └─ 200 → the length from Content-Length, or unknown until the end; if it breaks, that was it
//! ```

use super::Tuning;
use super::answer::{describe, text};
use super::client::{Client, Heard, Tried, Trouble};
use super::pin::Pin;
use super::signer::Signer;
use super::tries::Tries;
use crate::block::BlockSource;
use crate::counters::COUNTERS;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::{Locator, Spooler};
use crate::num::wide;
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;
use ureq::http::header;

/// Less than this in the time of a deadline is no progress.
const LEAST: u64 = 16 << 10;

/// Starts to download, and gives the bytes that arrive.
///
/// # Errors
/// As for [`super::open_url`]; `Host` when there is no room.
pub(super) fn open(
    locator: &Locator,
    tuning: &Tuning,
    spool: &dyn Spooler,
    signer: Option<Arc<dyn Signer>>,
) -> Result<Arc<dyn BlockSource>> {
    let download = Download::start(Client::new(locator, tuning, signer)?)?;
    let (label, len) = (download.client.label.clone(), download.len);
    spool.pour(&label, len, Box::new(download))
}

/// An object on its way.
struct Download {
    client: Client,
    /// What must stay the same when the server goes on after a break; without ranges there is none.
    pin: Option<Pin>,
    len: Option<u64>,
    /// Bytes that have arrived.
    at: u64,
    body: Option<Body>,
    tries: Tries,
    /// When and where the current deadline began.
    mark: (Instant, u64),
}

impl Download {
    fn start(client: Client) -> Result<Self> {
        let mut tries = Tries::new(client.tuning.pause, Instant::now(), client.tuning.opening);
        loop {
            let trouble = match client.ask("bytes=0-", None, None).and_then(|heard| Self::of(&client, heard))
            {
                Ok((pin, len, body)) => {
                    let now = Instant::now();
                    let tries = Tries::new(client.tuning.pause, now, client.tuning.deadline);
                    return Ok(Self { client, pin, len, at: 0, body, tries, mark: (now, 0) });
                }
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Final(error) => return Err(error),
                Trouble::Renewed => tries.renewed(&client.label)?,
                Trouble::Passing(why, wait) => {
                    if !tries.pause(&client.label, &why, wait) {
                        COUNTERS.errors.add(1);
                        let what = format!("{}: {why}{}", client.label, tries.count());
                        return Err(Error::new(ErrorKind::Source, what));
                    }
                }
            }
        }
    }

    /// What the first answer is: the pin if the server has ranges, the length if it says one, and the body.
    fn of(client: &Client, heard: Heard) -> Tried<(Option<Pin>, Option<u64>, Option<Body>)> {
        match heard.answer.status().as_u16() {
            206 => {
                let (_, pin) = client.check_range(&heard.answer, &(0..u64::MAX), None)?;
                let len = pin.len;
                Ok((Some(pin), Some(len), Some(body(heard))))
            }
            200 => {
                client.check_coding(&heard.answer, None)?;
                let len = text(heard.answer.headers(), header::CONTENT_LENGTH);
                let len = len.and_then(|len| len.parse().ok());
                Ok((None, len, Some(body(heard))))
            }
            _ => client.past_the_end(&heard.answer, None).map(|pin| (None, Some(pin.len), None)),
        }
    }

    /// The next bytes; none at the end.
    fn receive(&mut self, buf: &mut [u8]) -> Tried<usize> {
        let passing = |why: String| Err(Trouble::Passing(why, None));
        if self.len == Some(self.at) && self.body.is_none() {
            return Ok(0);
        }
        if self.body.is_none() {
            self.take_up()?;
        }
        let Some(body) = &mut self.body else { return passing("there is no connection".to_owned()) };
        let far = self.len.map_or_else(|| "an unknown number of".to_owned(), |len| len.to_string());
        match body.read(buf) {
            Ok(0) if self.len.is_none_or(|len| len <= self.at) => Ok(0),
            Ok(0) => passing(format!("the answer ended after {} of {far} bytes", self.at)),
            Ok(got) => {
                COUNTERS.source_bytes.add(wide(got));
                self.at = self.at.saturating_add(wide(got));
                self.progress()?;
                Ok(got)
            }
            Err(error) => {
                let error = ureq::Error::from(error);
                passing(format!(
                    "the answer broke off after {} of {far} bytes: {}",
                    self.at,
                    describe(&error)
                ))
            }
        }
    }

    /// Begins the next deadline when enough has arrived in this one.
    fn progress(&mut self) -> Tried<()> {
        let (since, from) = self.mark;
        let got = self.at.saturating_sub(from);
        if got >= LEAST {
            self.mark = (Instant::now(), self.at);
            self.tries = Tries::new(self.client.tuning.pause, self.mark.0, self.client.tuning.deadline);
        } else if since.elapsed() > self.client.tuning.deadline {
            let what = format!("{}: no more than {got} bytes within the deadline", self.client.label);
            return Err(Trouble::Final(Error::new(ErrorKind::Io, what)));
        }
        Ok(())
    }

    /// Asks for what is missing after a break.
    fn take_up(&mut self) -> Tried<()> {
        let Some(pin) = &self.pin else { return Ok(()) };
        let range = self.at..pin.len;
        let heard = self.client.ask(&format!("bytes={}-", self.at), Some(pin), None)?;
        if heard.answer.status().as_u16() != 206 {
            return Err(Trouble::Passing("the whole object instead of the rest of it".to_owned(), None));
        }
        self.client.check_range(&heard.answer, &range, Some(pin))?;
        self.body = Some(body(heard));
        Ok(())
    }
}

type Body = Box<dyn Read + Send>;

fn body(heard: Heard) -> Body {
    Box::new(heard.answer.into_body().into_reader())
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let error = match self.receive(buf) {
                Ok(got) => return Ok(got),
                Err(Trouble::Renewed) => match self.tries.renewed(&self.client.label) {
                    Ok(()) => continue,
                    Err(error) => return Err(std::io::Error::other(error)),
                },
                Err(Trouble::Final(error)) => error,
                Err(Trouble::Passing(why, wait)) => {
                    self.body = None;
                    if self.pin.is_some() && self.tries.pause(&self.client.label, &why, wait) {
                        continue;
                    }
                    let what = format!("{}: {why}{}", self.client.label, self.tries.count());
                    Error::new(ErrorKind::Io, what)
                        .help("it came by one request, and cannot be taken up where it broke: open it again")
                }
            };
            COUNTERS.errors.add(1);
            return Err(std::io::Error::other(error));
        }
    }
}
