//! The NBD server with TLS: GnuTLS (libnbd's tools, qemu) and OpenSSL (Python) as clients that mean well, rustls as one
//! that says what it is told where the specification's corners are. Certificates are made by `openssl`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stderr,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::disk::expected;
use common::nbd::{be32, compact, option};
use common::served::Served;
use common::server::{greeted, hung_up};
use imgmount::keys::Secret;
use imgmount::serve::nbd::{Certificates, Options, Tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

// ---- certificates ---------------------------------------------------------------------------------------------

/// Directories of certificates, made once: `good` has everything; what is wrong with another one, its name says.
static CERTIFICATES: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = common::lasting("certificates");
    let script = r#"
        cd "$DIR"; serial=100
        ec="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        authority() {
            openssl req -x509 $ec -keyout $1-key.pem -out $1.pem -days 2 -subj /CN=$1 \
                -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
        }
        leaf() { # authority, name, days, extension
            openssl req -new $ec -keyout $2-key.pem -out $2.csr -subj /CN=$2 2>/dev/null
            echo "$4" >ext
            openssl x509 -req -in $2.csr -CA $1.pem -CAkey $1-key.pem -out $2.pem -days $3 -extfile ext \
                -set_serial $((serial += 1)) 2>/dev/null
        }
        fill() { # directory, authority, server, client
            mkdir $1
            cp $2.pem $1/ca-cert.pem
            for side in "server $3" "client $4"; do
                set -- $1 $side
                cp $3.pem $1/$2-cert.pem
                cp $3-key.pem $1/$2-key.pem
            done
        }
        names=subjectAltName=DNS:localhost,IP:127.0.0.1
        authority ours
        authority others
        leaf ours server 2 $names
        leaf ours old 1 $names
        openssl x509 -req -in old.csr -CA ours.pem -CAkey ours-key.pem -out old.pem -days -1 \
            -extfile <(echo $names) -set_serial 7 2>/dev/null
        leaf ours client 2 extendedKeyUsage=clientAuth
        leaf others stranger 2 extendedKeyUsage=clientAuth
        leaf ours elsewhere 2 subjectAltName=DNS:elsewhere.example
        fill good ours server client
        fill expired ours old old
        fill wrong_authority others server stranger
        fill wrong_name ours elsewhere client
        fill revoked ours server client
        printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=2\n' >cnf
        touch index; echo 01 >number
        openssl ca -config cnf -keyfile ours-key.pem -cert ours.pem -revoke client.pem 2>/dev/null
        openssl ca -config cnf -keyfile ours-key.pem -cert ours.pem -gencrl -out revoked/ca-crl.pem 2>/dev/null
        mkdir anonymous; cp ours.pem anonymous/ca-cert.pem
        mkdir stranger; cp ours.pem stranger/ca-cert.pem
        cp stranger.pem stranger/client-cert.pem; cp stranger-key.pem stranger/client-key.pem
    "#;
    common::sh(&format!("DIR='{}'\n{script}", dir.display()));
    dir
});

fn certificates(name: &str) -> PathBuf {
    CERTIFICATES.join(name)
}

fn file(dir: &str, name: &str) -> Vec<u8> {
    std::fs::read(certificates(dir).join(name)).unwrap()
}

// ---- a server in this process ---------------------------------------------------------------------------------

fn serve_with(verify: bool, required: bool, mut options: Options) -> Served {
    let certificates = Certificates {
        certificate: file("good", "server-cert.pem"),
        key: Secret::new(file("good", "server-key.pem")),
        authority: Some(file("good", "ca-cert.pem")),
        revoked: None,
    };
    options.tls = Some(Tls::new(&certificates, verify, required).unwrap());
    common::disk::serve(options)
}

/// Where TLS is required.
fn serve() -> Served {
    serve_with(false, true, Options::default())
}

// ---- a client that says what it is told -----------------------------------------------------------------------

const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const LIST: u32 = 3;
const STARTTLS: u32 = 5;
const INFO: u32 = 6;
const GO: u32 = 7;
const STRUCTURED: u32 = 8;
const LIST_META: u32 = 9;
const SET_META: u32 = 10;
const EXTENDED: u32 = 11;
const ACK: u32 = 1;
const ERR_POLICY: u32 = (1 << 31) + 2;
const ERR_INVALID: u32 = (1 << 31) + 3;
const ERR_TLS_REQD: u32 = (1 << 31) + 5;
const READ: u16 = 0;
const DISC: u16 = 2;
const STATUS: u16 = 7;

/// The default export, nothing asked about it.
const DEFAULT: &[u8] = &[0; 6];
/// The default export's `base:allocation`.
const ALLOCATION: &[u8] = b"\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation";

struct Client<S>(S);
type Encrypted = Client<StreamOwned<ClientConnection, UnixStream>>;

fn request(kind: u16, offset: u64, len: u32) -> Vec<u8> {
    compact(0, kind, 77, offset, len)
}

/// What rustls shows and expects; `identity` is the directory of a client's certificate.
fn config(identity: Option<&str>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&file("good", "ca-cert.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        Some(dir) => {
            let certificate = CertificateDer::from_pem_slice(&file(dir, "client-cert.pem")).unwrap();
            let key = PrivateKeyDer::from_pem_slice(&file(dir, "client-key.pem")).unwrap();
            config.with_client_auth_cert(vec![certificate], key).unwrap()
        }
        None => config.with_no_client_auth(),
    })
}

impl Client<UnixStream> {
    /// Greeted, and with flags sent.
    fn new(server: &Served) -> Self {
        let mut stream = greeted(&server.socket).unwrap();
        stream.write_all(&3_u32.to_be_bytes()).unwrap();
        Self(stream)
    }

    /// Has just been told to begin with TLS.
    fn before_tls(server: &Served) -> Self {
        let mut client = Self::new(server);
        assert_eq!(client.answer(STARTTLS, &[]), ACK);
        client
    }

    fn encrypt(self, identity: Option<&str>) -> Encrypted {
        let name = ServerName::try_from("localhost").unwrap();
        Client(StreamOwned::new(ClientConnection::new(config(identity), name).unwrap(), self.0))
    }
}

impl Encrypted {
    /// In the transmission phase, with simple replies.
    fn simple(server: &Served) -> Self {
        let mut client = Client::before_tls(server).encrypt(None);
        assert_eq!(client.answer(GO, DEFAULT), ACK);
        client
    }

    fn assert_alive(&mut self) {
        self.0.write_all(&request(READ, 4096, 70_000)).unwrap();
        assert_eq!(self.simple_reply(), 0);
        assert_eq!(self.receive(70_000), expected(4096, 70_000));
    }
}

impl<S: Read + Write> Client<S> {
    fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The kind of the last answer to an option.
    fn answer(&mut self, number: u32, payload: &[u8]) -> u32 {
        self.0.write_all(&option(number, payload)).unwrap();
        self.last_answer(number)
    }

    fn last_answer(&mut self, number: u32) -> u32 {
        loop {
            let header = self.receive(20);
            assert_eq!(be32(&header[8..]), number);
            let kind = be32(&header[12..]);
            self.receive(be32(&header[16..]) as usize);
            if kind == ACK || kind >> 31 == 1 {
                return kind;
            }
        }
    }

    /// The error number of a simple reply.
    fn simple_reply(&mut self) -> u32 {
        let header = self.receive(16);
        assert_eq!(be32(&header), 0x6744_6698);
        be32(&header[4..])
    }

    /// What comes until the server hangs up.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => {}
            Err(error) => panic!("the connection is open: {error}"),
        }
        rest
    }
}

// ---- the specification's corners ------------------------------------------------------------------------------

#[test]
fn where_tls_is_required_nothing_else_is_answered_before_it() {
    requires!("openssl");
    let server = serve();
    let mut client = Client::new(&server);
    for number in [LIST, INFO, GO, STRUCTURED, LIST_META, SET_META, EXTENDED, 4, 99] {
        assert_eq!(client.answer(number, &[]), ERR_TLS_REQD, "{number}");
    }
    assert_eq!(client.answer(GO, DEFAULT), ERR_TLS_REQD);
    assert_eq!(client.answer(LIST, &[0; 60_000]), ERR_TLS_REQD);
    assert_eq!(client.answer(STARTTLS, &[]), ACK);
    let mut client = client.encrypt(None);
    assert_eq!(client.answer(GO, DEFAULT), ACK);
    client.assert_alive();
}

#[test]
fn where_tls_is_required_an_export_name_in_the_clear_ends_the_connection() {
    requires!("openssl");
    let server = serve();
    let mut client = Client::new(&server);
    client.0.write_all(&option(EXPORT_NAME, &[])).unwrap();
    assert_eq!(client.rest(), b"");
}

#[test]
fn where_tls_is_required_a_client_may_still_leave() {
    requires!("openssl");
    let server = serve();
    let mut client = Client::new(&server);
    assert_eq!(client.answer(ABORT, &[]), ACK);
    assert_eq!(client.rest(), b"");
}

#[test]
fn starttls_carries_no_data_and_comes_once() {
    requires!("openssl");
    let server = serve();
    let mut client = Client::new(&server);
    assert_eq!(client.answer(STARTTLS, b"now"), ERR_INVALID);
    assert_eq!(client.answer(STARTTLS, &[]), ACK);
    let mut client = client.encrypt(None);
    assert_eq!(client.answer(STARTTLS, &[]), ERR_INVALID);
    assert_eq!(client.answer(STARTTLS, b"again"), ERR_INVALID);
    assert_eq!(client.answer(GO, DEFAULT), ACK);
    client.assert_alive();
}

#[test]
fn where_tls_is_offered_both_kinds_of_client_are_served() {
    requires!("openssl");
    let server = serve_with(false, false, Options::default());
    let mut plain = Client::new(&server);
    assert_eq!(plain.answer(GO, DEFAULT), ACK);
    plain.0.write_all(&request(READ, 0, 512)).unwrap();
    assert_eq!(plain.simple_reply(), 0);
    assert_eq!(plain.receive(512), expected(0, 512));
    Encrypted::simple(&server).assert_alive();
}

/// CVE-2021-3716: what somebody in the middle agreed on before TLS would have counted after it.
#[test]
fn nothing_that_was_agreed_on_in_the_clear_counts_after_starttls() {
    requires!("openssl");
    let server = serve_with(false, false, Options::default());
    let mut client = Client::new(&server);
    assert_eq!(client.answer(STRUCTURED, &[]), ACK);
    assert_eq!(client.answer(SET_META, ALLOCATION), ACK);
    assert_eq!(client.answer(STARTTLS, &[]), ACK);
    let mut client = client.encrypt(None);
    assert_eq!(client.answer(LIST_META, ALLOCATION), ERR_INVALID, "structured replies count");
    assert_eq!(client.answer(STRUCTURED, &[]), ACK);
    assert_eq!(client.answer(GO, DEFAULT), ACK);
    client.0.write_all(&request(STATUS, 0, 4096)).unwrap();
    let header = client.receive(20);
    assert_eq!((be32(&header), &header[4..8]), (0x668e_33ef, &[0, 1, 0x80, 1][..]), "the context counts");
}

#[test]
fn headers_and_replies_are_simple_after_starttls_whatever_was_agreed_on_before() {
    requires!("openssl");
    let server = serve_with(false, false, Options::default());
    let mut client = Client::new(&server);
    assert_eq!(client.answer(STRUCTURED, &[]), ACK);
    assert_eq!(client.answer(EXTENDED, &[]), ACK);
    assert_eq!(client.answer(STARTTLS, &[]), ACK);
    let mut client = client.encrypt(None);
    assert_eq!(client.answer(GO, DEFAULT), ACK);
    client.assert_alive();
}

/// All that leaves the server after STARTTLS: the acknowledgement, and at most one TLS alert.
fn assert_ends_in_an_alert(rest: &[u8]) {
    let ack = [&0x0003_e889_0455_65a9_u64.to_be_bytes()[..], &[0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0]].concat();
    let alert = rest.strip_prefix(&ack[..]).unwrap();
    assert!(alert.is_empty() || (alert.len() == 7 && alert[0] == 21), "{alert:?}");
}

#[test]
fn options_behind_starttls_in_the_clear_are_never_taken() {
    requires!("openssl");
    let server = serve();
    let mut client = Client::new(&server);
    let injected = [option(STARTTLS, &[]), option(LIST, &[]), option(GO, DEFAULT), request(READ, 0, 512)];
    client.0.write_all(&injected.concat()).unwrap();
    assert_ends_in_an_alert(&client.rest());
    Encrypted::simple(&server).assert_alive();
}

#[test]
fn options_in_the_clear_in_front_of_a_real_tls_handshake_break_it() {
    requires!("openssl");
    let server = serve();
    let mut client = Client::new(&server);
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(config(None), name).unwrap();
    let mut all = [option(STARTTLS, &[]), option(STRUCTURED, &[])].concat();
    tls.write_tls(&mut all).unwrap();
    client.0.write_all(&all).unwrap();
    assert_ends_in_an_alert(&client.rest());
}

#[test]
fn requests_sent_together_with_the_last_option_are_served() {
    requires!("openssl");
    let server = serve();
    let mut client = Client::before_tls(&server).encrypt(None);
    let mut all = option(GO, DEFAULT);
    (0..300).for_each(|at| all.extend(request(READ, at * 512, 512)));
    client.0.write_all(&all).unwrap();
    assert_eq!(client.last_answer(GO), ACK);
    for _ in 0..300 {
        assert_eq!(client.simple_reply(), 0);
        client.receive(512);
    }
    client.assert_alive();
}

#[test]
fn records_may_arrive_byte_by_byte() {
    requires!("openssl");
    let server = serve();
    let mut client = Encrypted::simple(&server);
    let mut records = Vec::new();
    client.0.conn.writer().write_all(&request(READ, 4096, 512)).unwrap();
    client.0.conn.write_tls(&mut records).unwrap();
    for byte in records {
        client.0.sock.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(client.simple_reply(), 0);
    assert_eq!(client.receive(512), expected(4096, 512));
}

#[test]
fn the_end_is_announced_by_close_notify() {
    requires!("openssl");
    let server = serve();
    let mut client = Encrypted::simple(&server);
    client.0.write_all(&request(DISC, 0, 0)).unwrap();
    // Without it, rustls reports UnexpectedEof.
    assert_eq!(client.0.read(&mut [0; 1]).unwrap(), 0);
}

// ---- hostile clients ------------------------------------------------------------------------------------------

#[test]
fn a_broken_record_ends_its_connection_and_no_other() {
    requires!("openssl");
    let server = serve();
    let mut other = Encrypted::simple(&server);
    for broken in [
        &b"\x17\x03\x03\0\x20not encrypted by anybody we know"[..],
        &[0xff; 64],
        &[0x17, 3, 3, 0xff, 0xff, 0],
        &request(READ, 0, 512),
    ] {
        let mut client = Encrypted::simple(&server);
        client.0.sock.write_all(broken).unwrap();
        let mut rest = Vec::new();
        drop(client.0.sock.read_to_end(&mut rest));
        assert!(rest.len() < 64, "{broken:?} is answered: {rest:?}");
    }
    other.assert_alive();
}

#[test]
fn a_client_that_leaves_in_the_middle_of_the_tls_handshake_is_forgotten() {
    requires!("openssl");
    let server = serve();
    for cut in [1, 5, 6, 100] {
        let mut client = Client::before_tls(&server);
        let name = ServerName::try_from("localhost").unwrap();
        let mut hello = Vec::new();
        ClientConnection::new(config(None), name).unwrap().write_tls(&mut hello).unwrap();
        client.0.write_all(&hello[..cut]).unwrap();
    }
    Encrypted::simple(&server).assert_alive();
}

#[test]
fn half_done_tls_handshakes_keep_nobody_out() {
    requires!("openssl");
    let server =
        serve_with(false, true, Options { handshake: Duration::from_secs(120), ..Options::default() });
    let mute: Vec<_> = (0..250)
        .map(|_| {
            let mut client = Client::before_tls(&server);
            client.0.write_all(b"\x16\x03\x01").unwrap();
            client
        })
        .collect();
    let start = Instant::now();
    Encrypted::simple(&server).assert_alive();
    // Before the first of them is dropped.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    drop(mute);
}

#[test]
fn the_tls_handshake_counts_into_the_time_for_the_handshake() {
    requires!("openssl");
    let options = Options { handshake: Duration::from_secs(3), ..Options::default() };
    let server = serve_with(false, true, options);
    let mut client = Client::before_tls(&server);
    client.0.write_all(b"\x16\x03\x01\x02").unwrap();
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_client_that_takes_no_encrypted_replies_is_dropped_and_holds_nobody_up() {
    requires!("openssl");
    let options = Options { stall: Duration::from_secs(3), threads: 2, ..Options::default() };
    let server = serve_with(false, true, options);
    let mut greedy = Encrypted::simple(&server);
    // All at once: it may be dropped any time after the first.
    greedy.0.write_all(&request(READ, 0, 8 << 20).repeat(100)).unwrap();
    let mut good = Encrypted::simple(&server);
    good.assert_alive();
    hung_up(&greedy.0.sock);
    // What the kernel held is still there; then comes the end, long before 100 * 8 MiB.
    let mut taken = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(read @ 1..) = greedy.0.sock.read(&mut buffer) {
        taken += read;
    }
    assert!(taken < 64 << 20, "{taken}");
    good.assert_alive();
}

#[test]
fn many_requests_at_a_time_are_answered_each_with_its_own_bytes() {
    requires!("openssl");
    let server = serve_with(false, true, Options { threads: 4, ..Options::default() });
    let client = Encrypted::simple(&server);
    let Client(mut stream) = client;
    let mut all = Vec::new();
    for at in 0..64_u64 {
        let mut request = request(READ, at * 100_000, 100_000);
        request[8..16].copy_from_slice(&at.to_be_bytes());
        all.extend(request);
    }
    stream.write_all(&all).unwrap();
    for _ in 0..64 {
        let mut header = [0; 16];
        stream.read_exact(&mut header).unwrap();
        let at = u64::from_be_bytes(header[8..].try_into().unwrap());
        let mut bytes = vec![0; 100_000];
        stream.read_exact(&mut bytes).unwrap();
        assert!(bytes == expected(at * 100_000, 100_000), "{at}");
    }
}

#[test]
fn stop_hangs_up_on_encrypted_clients() {
    requires!("openssl");
    let server = serve();
    let mut client = Encrypted::simple(&server);
    let start = Instant::now();
    drop(server);
    assert_eq!(client.rest(), b"");
    // Before anybody is dropped because it takes nothing.
    assert!(start.elapsed() < Duration::from_secs(20));
}

// ---- who is let in --------------------------------------------------------------------------------------------

/// Does the server talk to a client with the certificate from this directory?
fn lets_in(server: &Served, identity: Option<&str>) -> bool {
    let mut client = Client::before_tls(server).encrypt(identity);
    client.0.write_all(&option(GO, DEFAULT)).is_ok() && client.0.read_exact(&mut [0; 20]).is_ok()
}

#[test]
fn with_verification_only_clients_of_our_authority_come_in() {
    requires!("openssl");
    let server = serve_with(true, true, Options::default());
    assert!(lets_in(&server, Some("good")));
    assert!(!lets_in(&server, None), "without a certificate");
    assert!(!lets_in(&server, Some("stranger")), "of another authority");
    assert!(!lets_in(&server, Some("expired")), "expired");
}

// ---- the program, and clients of others -----------------------------------------------------------------------

/// A raw image of random bytes in a directory of its own.
fn image() -> (tempfile::TempDir, PathBuf) {
    let dir = common::tempdir();
    let image = dir.path().join("disk.raw");
    common::sh(&format!(
        "cd '{}' && truncate -s 12M disk.raw && dd if=/dev/urandom of=disk.raw bs=1M seek=1 count=8 conv=notrunc status=none",
        dir.path().display()
    ));
    (dir, image)
}

/// `imgmount serve IMAGE --tls-certificates DIR OPTIONS --run COMMAND`: status, both outputs.
fn serve_and_run(image: &Path, dir: &str, options: &[&str], command: &str) -> (bool, String, String) {
    let dir = certificates(dir);
    let args = ["serve", image.to_str().unwrap(), "--tls-certificates", dir.to_str().unwrap()];
    let output = Command::new("timeout")
        .args(["60", common::IMGMOUNT])
        .args(args)
        .args(options)
        .args(["--run", command])
        .env("certificates", CERTIFICATES.as_path())
        .env("image", image)
        .output()
        .unwrap();
    (output.status.success(), common::stdout(&output), common::stderr(&output))
}

#[test]
fn libnbd_gets_the_bytes_of_the_image_over_either_socket() {
    requires!("openssl", "nbdcopy", "nbdinfo");
    let (_dir, image) = image();
    let command = r#"nbdinfo "$uri" && nbdcopy "$uri" - | cmp - "$image" && echo same"#;
    for options in [&["--tcp", "localhost:0"][..], &[], &["--tls", "on"]] {
        let (fine, out, err) = serve_and_run(&image, "good", options, command);
        assert!(fine, "{out}{err}");
        assert!(out.contains("with TLS") && out.ends_with("same\n"), "{out}{err}");
    }
}

#[test]
fn qemu_gets_the_bytes_of_the_image_and_is_told_why_without_tls() {
    requires!("openssl", "qemu-img");
    let (_dir, image) = image();
    let command = r#"
        qemu-img compare --object tls-creds-x509,id=t,endpoint=client,dir="$certificates/good" \
            --image-opts driver=raw,file.filename="$image" \
            driver=nbd,path="$unixsocket",tls-creds=t,tls-hostname=localhost &&
        ! qemu-img info "nbd+unix:///?socket=$unixsocket""#;
    let (fine, out, err) = serve_and_run(&image, "good", &["--tls-verify-peer"], command);
    assert!(fine && out.contains("Images are identical"), "{out}{err}");
    assert!(err.contains("this server talks to nobody without TLS"), "{err}");
}

#[test]
fn nbdsh_reads_many_pieces_at_once() {
    requires!("openssl", "/usr/lib/python3/dist-packages/nbd.py");
    let (_dir, image) = image();
    let command = r#"/usr/bin/python3 -c '
import os, nbd
h = nbd.NBD()
h.set_uri_allow_local_file(True)
h.connect_uri(os.environ["uri"])
image = open(os.environ["image"], "rb").read()
assert h.get_tls_negotiated() and h.get_structured_replies_negotiated()
pieces = [(at, nbd.Buffer(70001)) for at in range(0, 10 << 20, 70001)]
for at, buffer in pieces:
    h.aio_pread(buffer, at)
while h.aio_in_flight() > 0:
    h.poll(-1)
    while (done := h.aio_peek_command_completed() if h.aio_in_flight() else 0) > 0:
        assert h.aio_command_completed(done)
assert all(buffer.to_bytearray() == image[at:at + 70001] for at, buffer in pieces)
print("same")
'"#;
    let (fine, out, err) = serve_and_run(&image, "good", &[], command);
    assert!(fine && out == "same\n", "{out}{err}");
}

#[test]
fn libnbd_refuses_a_server_that_it_cannot_trust() {
    requires!("openssl", "nbdinfo");
    let (_dir, image) = image();
    let to = |dir: &str| format!(r#"nbdinfo --size "${{uri%%\?*}}?tls-certificates=$certificates/{dir}""#);
    let over_tcp = ["--tcp", "localhost:0"];
    let refused = |served: &str, client: &str, options: &[&str]| {
        let (fine, out, err) = serve_and_run(&image, served, options, &to(client));
        assert!(!fine && out.is_empty(), "{served}, {client}: {out}{err}");
        err
    };
    let distrust = "Error in the certificate verification";
    assert!(refused("expired", "anonymous", &over_tcp).contains(distrust));
    assert!(refused("wrong_name", "anonymous", &over_tcp).contains(distrust));
    assert!(refused("good", "wrong_authority", &over_tcp).contains(distrust));
    let (fine, out, err) = serve_and_run(&image, "good", &over_tcp, &to("anonymous"));
    assert!(fine && out == "12582912\n", "{out}{err}");
}

#[test]
fn verification_keeps_libnbd_out_without_certificate_of_another_authority_or_revoked() {
    requires!("openssl", "nbdinfo");
    let (_dir, image) = image();
    let options = ["--tcp", "localhost:0", "--tls-verify-peer"];
    let to = |dir: &str| format!(r#"nbdinfo --size "${{uri%%\?*}}?tls-certificates=$certificates/{dir}""#);
    let alert = "A TLS fatal alert has been received";
    for (served, client, comes_in) in [
        ("good", "good", true),
        ("good", "anonymous", false),
        ("good", "stranger", false),
        ("revoked", "good", false),
    ] {
        let (fine, out, err) = serve_and_run(&image, served, &options, &to(client));
        assert_eq!(fine, comes_in, "{served}, {client}: {out}{err}");
        assert_eq!(err.contains(alert), !comes_in, "{served}, {client}: {err}");
    }
}

/// OpenSSL's side of things: versions 1.2 and 1.3 are spoken, 1.1 is not; and 1.2 is not negotiated anew.
#[test]
fn openssl_speaks_tls_1_2_and_1_3_and_neither_1_1_nor_renegotiation() {
    requires!("openssl", "python3");
    let (dir, image) = image();
    let script = dir.path().join("versions.py");
    std::fs::write(
        &script,
        r#"
import os, socket, ssl, subprocess, threading
V = ssl.TLSVersion
def starttls():
    s = socket.create_connection(("127.0.0.1", int(os.environ["uri"].split(":")[2].split("/")[0])))
    assert s.recv(18, socket.MSG_WAITALL) == b"NBDMAGICIHAVEOPT\0\3"
    s.sendall(b"\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0\0")
    assert s.recv(20, socket.MSG_WAITALL)[12:16] == b"\0\0\0\1"
    return s
def size(version):
    c = ssl.create_default_context(cafile=os.environ["certificates"] + "/good/ca-cert.pem")
    c.set_ciphers("ALL:@SECLEVEL=0")
    c.minimum_version = c.maximum_version = version
    t = c.wrap_socket(starttls(), server_hostname="localhost")
    t.sendall(b"IHAVEOPT\0\0\0\1\0\0\0\0")
    return t.version(), int.from_bytes(t.recv(10)[:8], "big")
print(size(V.TLSv1_2), size(V.TLSv1_3))
for old in (V.TLSv1_1, V.TLSv1):
    try:
        print("spoken:", size(old))
    except (ssl.SSLError, ConnectionError) as error:
        print("refused")
# s_client knows no STARTTLS of NBD's: it goes through here, and finds TLS at once.
door = socket.create_server(("127.0.0.1", 0))
def pipe(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass
def proxy():
    client, server = door.accept()[0], starttls()
    threading.Thread(target=pipe, args=(client, server), daemon=True).start()
    pipe(server, client)
threading.Thread(target=proxy, daemon=True).start()
s = subprocess.Popen(["openssl", "s_client", "-tls1_2", "-connect", "127.0.0.1:%d" % door.getsockname()[1]],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
def wait(text):
    seen = b""
    while text not in seen:
        more = s.stdout.read(4096)
        assert more, (text, seen)
        seen += more
wait(b"Extended master secret: yes\n---\n")
s.stdin.write(b"IHAVEOPT\0\0\0\1\0\0\0\0")
wait(b"\0\xc0\0\0")
s.stdin.write(b"R\n")
print("renegotiation refused" if b"no renegotiation" in s.stdout.read() else "renegotiated")
"#,
    )
    .unwrap();
    let command = format!("timeout 20 /usr/bin/python3 -W ignore '{}'", script.display());
    let (fine, out, err) = serve_and_run(&image, "good", &["--tcp", "localhost:0"], &command);
    let expected = "('TLSv1.2', 12582912) ('TLSv1.3', 12582912)\nrefused\nrefused\nrenegotiation refused\n";
    assert!(fine && out == expected, "{out}{err}");
}

// ---- the command line -----------------------------------------------------------------------------------------

/// Standard error of a `serve` that does not begin; its status is 2.
fn usage(image: &Path, args: &[&str]) -> String {
    let serve = ["serve", image.to_str().unwrap(), "--run", "echo served"];
    let output = common::imgmount(serve.iter().chain(args));
    assert_eq!((output.status.code(), common::stdout(&output).as_str()), (Some(2), ""), "{args:?}");
    common::stderr(&output)
}

#[test]
fn what_tls_cannot_be_made_of_is_said_before_anybody_is_served() {
    requires!("openssl");
    let (dir, image) = image();
    let path = |name: &str| certificates(name).to_str().unwrap().to_owned();
    assert!(usage(&image, &["--tls-psk", "keys"]).contains("--tls-certificates"));
    assert!(usage(&image, &["--tls=require"]).contains("--tls-certificates DIR"));
    assert!(usage(&image, &["--tls-verify-peer"]).contains("--tls-certificates DIR"));
    assert!(usage(&image, &["--tls-certificates", &path("anonymous")]).contains("server-cert.pem"));
    let mixed = dir.path().join("mixed");
    let make = |server_key: &str| {
        common::sh(&format!(
            "rm -rf '{0}'; mkdir '{0}'; cp '{1}'/* '{0}'; {server_key}",
            mixed.display(),
            path("good")
        ));
        usage(&image, &["--tls-certificates", mixed.to_str().unwrap()])
    };
    let key = format!("'{}/server-key.pem'", mixed.display());
    assert!(make(&format!("cp '{}/client-key.pem' {key}", path("good"))).contains("server-key.pem"));
    assert!(make(&format!("echo nothing > {key}")).contains("server-key.pem cannot be used"));
    let lock = format!("openssl pkey -aes128 -passout pass:x -in {key} -out k && mv k {key}");
    let lock = format!("cd '{}'; {lock}", dir.path().display());
    assert!(make(&lock).contains("without a passphrase"));
    assert!(make(&format!("rm {key}; mkfifo {key}")).contains("server-key.pem"));
}

#[test]
fn others_may_reach_a_server_that_requires_tls_and_no_other() {
    requires!("openssl", "nbdinfo");
    let (_dir, image) = image();
    let good = certificates("good");
    let everybody = ["--tcp", "0.0.0.0:0"];
    assert!(usage(&image, &everybody).contains("--tls-certificates"));
    let offered = ["--tls-certificates", good.to_str().unwrap(), "--tls", "on", everybody[0], everybody[1]];
    assert!(usage(&image, &offered).contains("--insecure"));
    let command = r#"port="${uri#nbds://0.0.0.0:}"; nbdinfo --size "nbds://localhost:$port""#;
    let (fine, out, err) = serve_and_run(&image, "good", &everybody, command);
    assert!(fine && out == "12582912\n", "{out}{err}");
}

#[test]
fn tls_off_leaves_the_certificates_alone() {
    requires!("openssl", "nbdinfo");
    let (_dir, image) = image();
    let (fine, out, err) = serve_and_run(&image, "good", &["--tls=off"], r#"echo "$uri"; nbdinfo "$uri""#);
    assert!(fine && out.starts_with("nbd+unix:") && out.contains("without TLS"), "{out}{err}");
}

#[test]
fn the_log_says_why_somebody_is_turned_away_and_nothing_of_the_key() {
    requires!("openssl", "nbdinfo");
    let (_dir, image) = image();
    let command = r#"nbdinfo "${uri%good}anonymous"; nbdinfo "$uri" && sleep 1"#;
    let (_, out, err) = serve_and_run(&image, "good", &["-vvv", "--tls-verify-peer"], command);
    assert!(out.contains("with TLS") && err.contains("peer sent no certificates"), "{out}{err}");
    let key = String::from_utf8(file("good", "server-key.pem")).unwrap();
    assert!(!err.contains(key.lines().nth(1).unwrap()));
}

#[test]
fn without_certificates_starttls_is_against_the_policy() {
    let server = common::disk::serve(Options::default());
    let mut client = Client::new(&server);
    assert_eq!(client.answer(STARTTLS, &[]), ERR_POLICY);
    assert_eq!(client.answer(GO, DEFAULT), ACK);
}
