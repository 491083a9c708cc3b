//! The words of the NBD protocol as bytes (doc/proto.md): what a test's own client sends, and reads in what comes.

pub fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(bytes[..2].try_into().unwrap())
}

pub fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

pub fn be64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

/// A string as options carry it.
pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

/// An option.
pub fn option(number: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&b"IHAVEOPT"[..], &number.to_be_bytes(), &len, payload].concat()
}

/// What GO and INFO carry.
pub fn go(name: &str, wanted: &[u16]) -> Vec<u8> {
    let kinds = wanted.iter().flat_map(|kind| kind.to_be_bytes()).collect::<Vec<_>>();
    [&string(name)[..], &(wanted.len() as u16).to_be_bytes(), &kinds].concat()
}

/// What the options about metadata contexts carry.
pub fn meta(name: &str, queries: &[&str]) -> Vec<u8> {
    let strings = queries.iter().flat_map(|query| string(query)).collect::<Vec<_>>();
    [&string(name)[..], &(queries.len() as u32).to_be_bytes(), &strings].concat()
}

/// A compact request, of 28 bytes.
pub fn compact(flags: u16, kind: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes
}
