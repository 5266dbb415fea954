//! Refuses an answer of very many parts before they take their room in memory.
//!
//! An empty message is two bytes on the wire and hundreds in memory: the 16 MiB that an answer may have could
//! become gigabytes.

use std::marker::PhantomData;

use prost::bytes::Buf as _;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

/// How many messages and texts an answer may have; 2,000 containers with all that kubelet writes about each have
/// 80,000.
const MAX_PARTS: usize = 1 << 18;
/// How deep messages are looked into: an answer, a container, its labels, one label.
const MAX_DEPTH: usize = 4;

/// Protobuf's codec with a bound on the parts of an answer.
pub(super) struct BoundedCodec<Q, A>(PhantomData<(Q, A)>);

impl<Q, A> Default for BoundedCodec<Q, A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

type Plain<Q, A> = ProstCodec<Q, A>;

impl<Q, A> Codec for BoundedCodec<Q, A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    type Encode = Q;
    type Decode = A;
    type Encoder = <Plain<Q, A> as Codec>::Encoder;
    type Decoder = Bounded<<Plain<Q, A> as Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        Plain::<Q, A>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Bounded(Plain::<Q, A>::default().decoder())
    }
}

/// Counts, then decodes.
pub(super) struct Bounded<D>(D);

impl<D: Decoder<Error = Status>> Decoder for Bounded<D> {
    type Item = D::Item;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        // tonic keeps a message in one piece.
        let whole = buffer.chunk().len() == buffer.remaining();
        let mut left = MAX_PARTS;
        if !whole || count(buffer.chunk(), MAX_DEPTH, &mut left) == Parts::TooMany {
            return Err(Status::resource_exhausted(format!("the answer has more than {MAX_PARTS} parts")));
        }
        self.0.decode(buffer)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Parts {
    /// Those of a message.
    Counted,
    /// The bytes are no message: a text, or an answer that decoding refuses.
    NoMessage,
    /// More than were left.
    TooMany,
}

/// Takes the messages and texts in a message off `left`; numbers take no more room than on the wire. A text that
/// reads as a message counts as one.
fn count(mut bytes: &[u8], depth: usize, left: &mut usize) -> Parts {
    while !bytes.is_empty() {
        let Some((value, rest)) = field(bytes) else { return Parts::NoMessage };
        bytes = rest;
        let Some(value) = value else { continue };
        let Some(less) = left.checked_sub(1) else { return Parts::TooMany };
        *left = less;
        if depth > 1 && count(value, depth - 1, left) == Parts::TooMany {
            return Parts::TooMany;
        }
    }
    Parts::Counted
}

/// Splits the first field off: the bytes of one with a length, and what comes after it
/// (protobuf.dev/programming-guides/encoding).
fn field(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (tag, rest) = varint(bytes)?;
    match tag & 7 {
        0 => Some((None, varint(rest)?.1)),
        1 => Some((None, rest.get(8..)?)),
        2 => {
            let (length, rest) = varint(rest)?;
            let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Some(value), rest))
        }
        // Groups, of which CRI has none, have no length.
        3 | 4 => Some((None, rest)),
        5 => Some((None, rest.get(4..)?)),
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (place, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(place * 7).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(place + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::cri::wire::{Container, ContainerMetadata, ListContainersResponse};

    fn parts(message: &ListContainersResponse, most: usize) -> Parts {
        count(&message.encode_to_vec(), MAX_DEPTH, &mut { most })
    }

    #[test]
    fn very_many_empty_parts_are_refused_and_a_crowded_node_is_not() {
        let empty = ListContainersResponse { containers: vec![Container::default(); MAX_PARTS + 1] };
        assert_eq!(parts(&empty, MAX_PARTS), Parts::TooMany);
        let text = |name: &str, number: i32| (format!("io.kubernetes.{name}.{number}"), "x".repeat(64));
        let full = Container {
            id: "f".repeat(64),
            metadata: Some(ContainerMetadata { name: "etcd".into(), attempt: 3 }),
            labels: (0..6).map(|number| text("label", number)).collect(),
            annotations: (0..6).map(|number| text("annotation", number)).collect(),
            ..Container::default()
        };
        let crowd = ListContainersResponse { containers: vec![full; 2000] };
        assert_eq!(parts(&crowd, MAX_PARTS), Parts::Counted);
    }

    #[test]
    fn parts_in_parts_count_and_no_bytes_make_it_panic() {
        // A container with many empty labels.
        let inner = [0x42_u8, 0].repeat(100);
        let outer = [&[0x0a, 200, 1][..], &inner].concat();
        assert_eq!(count(&outer, MAX_DEPTH, &mut 100), Parts::TooMany);
        assert_eq!(count(&[0x0a, 0xff, 0x01], MAX_DEPTH, &mut 100), Parts::NoMessage);
        for length in 0..=12 {
            for byte in [0, 0x07, 0x0a, 0x7f, 0x80, 0xff] {
                let _ = count(&vec![byte; length], MAX_DEPTH, &mut 100);
            }
        }
    }
}
