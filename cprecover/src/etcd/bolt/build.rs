//! Writes small bbolt files for tests.

use super::meta::fnv1a;
use super::page::{BRANCH, FREELIST, LEAF};

pub(in crate::etcd) const PAGE: usize = 4096;

/// A page of (flags, key, value) or, in a branch, (child, key).
pub(in crate::etcd) fn leaf(id: u64, items: &[(u32, Vec<u8>, Vec<u8>)], size: usize) -> Vec<u8> {
    let mut page = header(id, LEAF, items.len(), size / PAGE - 1);
    let mut data = Vec::new();
    for (place, (flags, key, value)) in items.iter().enumerate() {
        let base = place * 16;
        let pos = items.len() * 16 + data.len() - base;
        for number in [*flags, to_u32(pos), to_u32(key.len()), to_u32(value.len())] {
            page.extend(number.to_le_bytes());
        }
        data.extend_from_slice(key);
        data.extend_from_slice(value);
    }
    page.extend(data);
    assert!(page.len() <= size, "page of {} bytes", page.len());
    page.resize(size, 0);
    page
}

pub(in crate::etcd) fn branch(id: u64, items: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut page = header(id, BRANCH, items.len(), 0);
    let mut data = Vec::new();
    for (place, (child, key)) in items.iter().enumerate() {
        let pos = items.len() * 16 + data.len() - place * 16;
        page.extend(to_u32(pos).to_le_bytes());
        page.extend(to_u32(key.len()).to_le_bytes());
        page.extend(child.to_le_bytes());
        data.extend_from_slice(key);
    }
    page.extend(data);
    page.resize(PAGE, 0);
    page
}

pub(in crate::etcd) fn freelist(id: u64, free: &[u64]) -> Vec<u8> {
    let mut page = header(id, FREELIST, free.len(), 0);
    page.extend(free.iter().flat_map(|id| id.to_le_bytes()));
    page.resize(PAGE, 0);
    page
}

fn header(id: u64, flags: u16, count: usize, overflow: usize) -> Vec<u8> {
    let mut page = id.to_le_bytes().to_vec();
    page.extend(flags.to_le_bytes());
    page.extend(u16::try_from(count).expect("few").to_le_bytes());
    page.extend(to_u32(overflow).to_le_bytes());
    page
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).expect("small")
}

pub(in crate::etcd) fn meta(
    id: u64,
    root: u64,
    freelist: Option<u64>,
    pages: u64,
    transaction: u64,
) -> Vec<u8> {
    let mut meta = Vec::new();
    for number in [0xED0C_DAED_u32, 2, 4096, 0] {
        meta.extend(number.to_le_bytes());
    }
    for number in [root, 0, freelist.unwrap_or(u64::MAX), pages, transaction] {
        meta.extend(number.to_le_bytes());
    }
    meta.extend(fnv1a(&meta).to_le_bytes());
    let mut page = header(id, 0x04, 0, 0);
    page.extend(meta);
    page.resize(PAGE, 0);
    page
}

/// A bucket that has its own root page.
pub(in crate::etcd) fn bucket(name: &str, root: u64) -> (u32, Vec<u8>, Vec<u8>) {
    let mut value = root.to_le_bytes().to_vec();
    value.extend([0; 8]);
    (1, name.as_bytes().to_vec(), value)
}

/// A bucket whose only page is inline.
pub(in crate::etcd) fn inline(name: &str, items: &[(&[u8], &[u8])]) -> (u32, Vec<u8>, Vec<u8>) {
    let items: Vec<_> = items.iter().map(|(key, value)| (0, key.to_vec(), value.to_vec())).collect();
    let mut page = leaf(0, &items, PAGE);
    let used = 16 + items.iter().map(|(_, key, value)| 16 + key.len() + value.len()).sum::<usize>();
    page.truncate(used);
    let mut value = vec![0; 16];
    value.extend(page);
    (1, name.as_bytes().to_vec(), value)
}

pub(in crate::etcd) fn revision(main: u64) -> Vec<u8> {
    let mut key = main.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend([0; 8]);
    key
}

/// A database as etcd 3.6 writes it: `meta` with term and storage version, members as JSON, the key space
/// under a branch page, one value that overflows its page.
pub(in crate::etcd) fn etcd_36(consistent_index: u64, member: &str) -> Vec<Vec<u8>> {
    let index = consistent_index.to_be_bytes();
    let term = 7_u64.to_be_bytes();
    let json = format!(
        "{{\"id\":{},\"peerURLs\":[\"https://10.0.0.1:2380\"],\"name\":\"cp1\",\"clientURLs\":[\"https://10.0.0.1:2379\"]}}",
        u64::from_str_radix(member, 16).expect("hex")
    );
    let root = leaf(
        3,
        &[
            inline("alarm", &[(&[0x08, 0xa1, 0x01, 0x10, 0x01], b"")]),
            inline("cluster", &[(b"clusterVersion", b"3.6.0")]),
            bucket("key", 4),
            inline("members", &[(member.as_bytes(), json.as_bytes())]),
            inline("members_removed", &[(b"dead", b"removed")]),
            inline("meta", &[(b"consistent_index", &index), (b"storageVersion", b"3.6.0"), (b"term", &term)]),
        ],
        PAGE,
    );
    let keys = branch(4, &[(5, revision(2)), (6, revision(9))]);
    let small = leaf(5, &[(0, revision(2), b"a".to_vec()), (0, revision(3), b"b".to_vec())], PAGE);
    let large = leaf(6, &[(0, revision(9), vec![1; 5000])], 2 * PAGE);
    vec![
        meta(0, 3, None, 9, 12),
        meta(1, 2, None, 9, 11),
        leaf(2, &[], PAGE),
        root,
        keys,
        small,
        large,
        vec![0; PAGE],
    ]
}

/// The database of a member that has applied three entries and lists `members`: the id of each in hex, in
/// order, and what is kept about it as JSON.
pub(crate) fn database_listing(members: &[(&str, &str)]) -> Vec<u8> {
    let (index, term) = (3_u64.to_be_bytes(), 2_u64.to_be_bytes());
    let members: Vec<_> = members.iter().map(|(id, json)| (id.as_bytes(), json.as_bytes())).collect();
    let root = leaf(
        3,
        &[
            inline("alarm", &[]),
            inline("cluster", &[(b"clusterVersion", b"3.6.0")]),
            bucket("key", 4),
            inline("members", &members),
            inline("members_removed", &[]),
            inline("meta", &[(b"consistent_index", &index), (b"storageVersion", b"3.6.0"), (b"term", &term)]),
        ],
        PAGE,
    );
    let keys = leaf(4, &[(0, revision(2), b"stand-in".to_vec())], PAGE);
    [meta(0, 3, None, 5, 4), meta(1, 2, None, 5, 3), leaf(2, &[], PAGE), root, keys].concat()
}
