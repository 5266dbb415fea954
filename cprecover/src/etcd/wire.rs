//! The little of protobuf that the WAL and snapshot files need.
//!
//! Six flat messages with scalar and bytes fields do not justify prost in the default build, where
//! nothing else uses it; a reader of fields in place also skips an entry's payload without copying it.
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

/// The value of one field; fixed-width fields are skipped, no message here has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// A varint.
    Varint(u64),
    /// A length-delimited field: bytes, string or message.
    Bytes(&'a [u8]),
    /// A fixed-width field.
    Fixed,
}

/// The bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Iterates over the fields of a message; ends after the first malformed one.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let count = usize::try_from(count).ok()?;
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 {
            return None;
        }
        let value = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        Some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(Malformed))
    }
}

/// Returns the varint fields `numbers` of a message, 0 where they are not set.
pub(super) fn varints<const N: usize>(message: &[u8], numbers: [u64; N]) -> Result<[u64; N], Malformed> {
    let mut values = [0; N];
    for field in Fields::new(message) {
        let (number, value) = field?;
        if let Some(slot) = numbers.iter().position(|wanted| *wanted == number) {
            let Field::Varint(value) = value else { return Err(Malformed) };
            if let Some(place) = values.get_mut(slot) {
                *place = value;
            }
        }
    }
    Ok(values)
}

/// Writes messages for tests, so that fixtures need no etcd.
#[cfg(test)]
pub(super) mod build {
    pub(in crate::etcd) fn varint(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).expect("7 bits") | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).expect("7 bits"));
    }

    pub(in crate::etcd) fn number(out: &mut Vec<u8>, field: u64, value: u64) {
        varint(out, field << 3);
        varint(out, value);
    }

    pub(in crate::etcd) fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
        varint(out, field << 3 | 2);
        varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_in_order_and_unknown_ones_skipped() {
        let mut message = Vec::new();
        build::number(&mut message, 1, 300);
        build::bytes(&mut message, 3, b"abc");
        build::number(&mut message, 9, u64::MAX);
        let fields: Vec<_> = Fields::new(&message).collect::<Result<_, _>>().expect("sound");
        assert_eq!(
            fields,
            [(1, Field::Varint(300)), (3, Field::Bytes(b"abc")), (9, Field::Varint(u64::MAX))]
        );
        assert_eq!(varints(&message, [9, 2]), Ok([u64::MAX, 0]));
        assert_eq!(varints(&message, [3]), Err(Malformed));
    }

    #[test]
    fn cut_and_overlong_fields_are_malformed() {
        for bad in [&[0x08][..], &[0x0a, 5, 1], &[0x80; 11], &[0x0b], &[0x00, 1], &[0x09, 1, 2]] {
            assert!(Fields::new(bad).any(|field| field.is_err()), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(message in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(Fields::new(&message).count() <= message.len());
        }
    }
}
