//! Looks for the needles of all signatures at once.
//!
//! aho-corasick gives up the vector search above 64 patterns, so the needles go in groups, and each from
//! its rarest four bytes on: a fingerprint such as `fail` would stop the search in every other line.

use std::collections::HashMap;
use std::sync::OnceLock;

use aho_corasick::packed;
use aho_corasick::{AhoCorasick, MatchKind, Span};

use super::table::SIGNATURES;

/// With more patterns than this at once aho-corasick does without vector instructions.
const MAX_PATTERNS: usize = 64;
/// How many bytes of a pattern the vector search looks at before it compares the rest.
const FINGERPRINT: usize = 4;

/// The searchers, built once.
struct Needles {
    /// Find the rare parts of the needles; none on processors without the vector instructions.
    groups: Vec<Group>,
    /// Finds all needles, where the groups are none.
    all: AhoCorasick,
    /// For each needle its text and its row of the table.
    rows: Vec<(&'static str, usize)>,
}

struct Group {
    searcher: packed::Searcher,
    /// For each pattern the needles that may be there when it is found: index, and how far it begins before.
    needles: Vec<Vec<(usize, usize)>>,
}

fn needles() -> &'static Needles {
    static NEEDLES: OnceLock<Needles> = OnceLock::new();
    NEEDLES.get_or_init(|| {
        let in_row = |(row, signature): (usize, &'static super::Signature)| {
            signature.needles.iter().map(move |needle| (*needle, row))
        };
        let rows: Vec<(&'static str, usize)> = SIGNATURES.iter().enumerate().flat_map(in_row).collect();
        // The patterns are constants; that they build is proven by every test of this module.
        let all = AhoCorasick::builder().match_kind(MatchKind::Standard).build(rows.iter().map(|row| row.0));
        let starts: Vec<usize> = rows.iter().map(|(needle, _)| rare_start(needle.as_bytes())).collect();
        let mut parts: Vec<&'static [u8]> = rows
            .iter()
            .zip(&starts)
            .filter_map(|((needle, _), start)| needle.as_bytes().get(*start..))
            .collect();
        parts.sort_unstable();
        parts.dedup();
        let size = parts.len().div_ceil(parts.len().div_ceil(MAX_PATTERNS).max(1)).max(1);
        let groups =
            parts.chunks(size).map(|parts| Group::new(parts, &rows, &starts)).collect::<Option<Vec<_>>>();
        Needles { groups: groups.unwrap_or_default(), all: all.expect("constant needles build"), rows }
    })
}

impl Group {
    fn new(parts: &[&'static [u8]], rows: &[(&'static str, usize)], starts: &[usize]) -> Option<Self> {
        let searcher = packed::Searcher::new(parts.iter().copied())?;
        // Where two patterns begin at one place only one is told, so that one stands for the other.
        let needles = parts.iter().map(|part| {
            let may_be = |(index, ((needle, _), start)): (usize, (&(&'static str, usize), &usize))| {
                let own = needle.as_bytes().get(*start..)?;
                (own.starts_with(part) || part.starts_with(own)).then_some((index, *start))
            };
            rows.iter().zip(starts).enumerate().filter_map(may_be).collect()
        });
        Some(Self { needles: needles.collect(), searcher })
    }
}

/// Returns where the rarest four bytes of a needle begin.
fn rare_start(needle: &[u8]) -> usize {
    static USUAL: OnceLock<HashMap<&'static [u8], u32>> = OnceLock::new();
    let usual = USUAL.get_or_init(|| {
        let mut counts = HashMap::new();
        for window in include_bytes!("usual.log").windows(FINGERPRINT) {
            *counts.entry(window).or_default() += 1;
        }
        counts
    });
    let count = |at: usize| {
        needle.get(at..at + FINGERPRINT).map_or(u32::MAX, |window| usual.get(window).copied().unwrap_or(0))
    };
    // Of equally rare ones the first: the longer the rest, the fewer false hits.
    let last = needle.len().saturating_sub(FINGERPRINT);
    (0..=last).min_by_key(|at| (count(*at), *at)).unwrap_or(0)
}

/// Returns the rows of the table of which a needle is in `text`, each once, in the order of the text.
pub(super) fn rows_in(text: &str) -> Vec<usize> {
    let known = needles();
    let mut found: Vec<(usize, usize)> = Vec::new();
    if known.groups.is_empty() {
        for hit in known.all.find_overlapping_iter(text) {
            found.extend(known.rows.get(hit.pattern().as_usize()).map(|(_, row)| (hit.start(), *row)));
        }
    }
    for group in &known.groups {
        let mut from = 0;
        while let Some(hit) = group.searcher.find_in(text.as_bytes(), Span { start: from, end: text.len() }) {
            for (index, before) in group.needles.get(hit.pattern().as_usize()).into_iter().flatten() {
                let Some((needle, row)) = known.rows.get(*index) else { continue };
                let start = hit.start().checked_sub(*before);
                let rest = start.and_then(|start| text.as_bytes().get(start..));
                if let (Some(start), true) =
                    (start, rest.is_some_and(|rest| rest.starts_with(needle.as_bytes())))
                {
                    found.push((start, *row));
                }
            }
            // Needles may overlap.
            from = hit.start() + 1;
        }
    }
    found.sort_unstable();
    let mut rows = Vec::with_capacity(found.len());
    for (_, row) in found {
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

/// Reports whether a line may hold a needle.
pub(super) fn may_be_in(line: &[u8]) -> bool {
    let known = needles();
    match known.groups.as_slice() {
        [] => known.all.is_match(line),
        groups => groups.iter().any(|group| group.searcher.find(line).is_some()),
    }
}

/// Where in a block the next needle may begin.
pub(super) struct Hits<'a> {
    block: &'a [u8],
    /// The next hit of each searcher.
    next: Vec<Option<usize>>,
}

impl<'a> Hits<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        let mut hits = Self { block, next: vec![None; needles().groups.len().max(1)] };
        for searcher in 0..hits.next.len() {
            hits.search(searcher, 0);
        }
        hits
    }

    /// Returns where the rare part of a needle is next, from `from` on; `from` never goes back.
    pub(super) fn next(&mut self, from: usize) -> Option<usize> {
        for searcher in 0..self.next.len() {
            // One that is ahead has already searched what lies between.
            if self.next.get(searcher).copied().flatten().is_some_and(|at| at < from) {
                self.search(searcher, from);
            }
        }
        self.next.iter().copied().flatten().min()
    }

    fn search(&mut self, searcher: usize, from: usize) {
        let span = Span { start: from, end: self.block.len() };
        let found = if let Some(group) = needles().groups.get(searcher) {
            group.searcher.find_in(self.block, span).map(|found| found.start())
        } else {
            let input = aho_corasick::Input::new(self.block).span(span);
            needles().all.find(input).map(|found| found.start())
        };
        if let Some(next) = self.next.get_mut(searcher) {
            *next = found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow way: every needle by itself.
    fn one_by_one(text: &str) -> Vec<usize> {
        let mut found: Vec<(usize, usize)> = needles()
            .rows
            .iter()
            .flat_map(|(needle, row)| text.match_indices(needle).map(|(at, _)| (at, *row)))
            .collect();
        found.sort_unstable();
        let mut rows = Vec::new();
        for (_, row) in found {
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        rows
    }

    #[test]
    fn every_needle_is_found_in_the_middle_of_others_and_cut_ones_are_not() {
        let rows = &needles().rows;
        for (index, (needle, row)) in rows.iter().enumerate() {
            assert!(rows_in(needle).contains(row), "{needle}");
            assert!(Hits::new(needle.as_bytes()).next(0).is_some(), "{needle}");
            for (other, _) in rows.iter().skip(index % 7).step_by(7) {
                let text = format!("x {other}{needle}{other} é {}", needle.get(1..).unwrap_or_default());
                assert_eq!(rows_in(&text), one_by_one(&text), "{text}");
            }
            let cut = needle.get(..needle.len() - 1).unwrap_or_default();
            assert_eq!(rows_in(cut), one_by_one(cut), "{cut}");
        }
    }

    #[test]
    fn the_vector_search_is_used_where_there_is_one() {
        assert!(needles().groups.len() >= 2 || packed::Searcher::new(["probe"]).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_mixture_of_needles_gives_what_one_by_one_gives(parts in proptest::collection::vec((0_usize..200, 0_usize..40), 0..12)) {
            let text: String = parts
                .iter()
                .filter_map(|(index, cut)| {
                    let (needle, _) = needles().rows.get(index % needles().rows.len())?;
                    needle.get(cut % needle.len()..)
                })
                .collect();
            proptest::prop_assert_eq!(rows_in(&text), one_by_one(&text));
        }
    }
}
