//! Recognises lines that differ only in their timestamp, so that a flood of one message is cheap.

use super::LogMatch;
use super::line;

/// How many texts are remembered; a text that falls on another's place replaces it.
const PLACES: usize = 1024;
/// Longer texts are not remembered.
const MAX_TEXT: usize = 2048;
/// The head of a line (time, host, process, source position) ends within so many bytes.
const MAX_HEAD: usize = 192;

/// Remembered texts and the matches that they belong to.
#[derive(Debug, Default)]
pub(super) struct Seen {
    places: Vec<Place>,
    /// Head of the last line that was only counted, by index of the match.
    heads: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
struct Place {
    text: Vec<u8>,
    matches: Vec<usize>,
}

impl Seen {
    /// Counts a line whose text is known; returns whether it is.
    pub(super) fn count(&mut self, raw: &[u8], number: u64, matches: &mut [LogMatch]) -> bool {
        let Some((head, text)) = split_head(raw) else { return false };
        let Some(place) = self.places.get(place_of(text)) else { return false };
        if place.text != text {
            return false;
        }
        for index in &place.matches {
            let Some(found) = matches.get_mut(*index) else { continue };
            found.count += 1;
            found.last_line = number;
            if self.heads.len() <= *index {
                self.heads.resize(*index + 1, Vec::new());
            }
            if let Some(kept) = self.heads.get_mut(*index) {
                kept.clear();
                kept.extend_from_slice(head);
            }
        }
        true
    }

    /// Remembers a line's text and the matches it belongs to; also when it belongs to none.
    pub(super) fn remember(&mut self, raw: &[u8], matches: Vec<usize>) {
        let Some((_, text)) = split_head(raw) else { return };
        if self.places.is_empty() {
            self.places.resize(PLACES, Place::default());
        }
        if let Some(place) = self.places.get_mut(place_of(text)) {
            place.text.clear();
            place.text.extend_from_slice(text);
            place.matches = matches;
        }
    }

    /// Forgets the head of a match whose time was just set from a whole line.
    pub(super) fn forget_time(&mut self, index: usize) {
        if let Some(head) = self.heads.get_mut(index) {
            head.clear();
        }
    }

    /// Sets the times of matches whose last line was only counted.
    pub(super) fn write_times(&self, matches: &mut [LogMatch]) {
        for (found, head) in matches.iter_mut().zip(&self.heads) {
            if !head.is_empty()
                && let Some(time) = line::parse(&String::from_utf8_lossy(head)).time
            {
                found.time = Some(time);
            }
        }
    }
}

/// Splits a line at the end of klog's head; other formats are not worth it.
fn split_head(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let window = raw.get(..MAX_HEAD).unwrap_or(raw);
    let mut at = 0;
    let end = loop {
        at += memchr::memchr(b']', window.get(at..)?)? + 1;
        if window.get(at) == Some(&b' ') {
            break at + 1;
        }
    };
    let (head, text) = raw.split_at(end);
    // A JSON line hides its time elsewhere.
    (text.len() <= MAX_TEXT && raw.first() != Some(&b'{')).then_some((head, text))
}

/// Chooses a place by length and three samples; equality decides, so that a poor choice only costs time.
fn place_of(text: &[u8]) -> usize {
    let sample = |at: usize| -> u64 {
        let bytes = text.get(at..at.saturating_add(8)).unwrap_or_default();
        bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    };
    let length = text.len();
    let mixed = (length as u64)
        .wrapping_add(sample(length / 3).wrapping_mul(3))
        .wrapping_add(sample(length * 2 / 3).wrapping_mul(5))
        .wrapping_add(sample(length.saturating_sub(16)).wrapping_mul(7))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(mixed >> 54).unwrap_or(0) % PLACES
}
