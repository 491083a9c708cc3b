//! Presigned URLs: AWS Signature Version 4 in the query string. A signature is a chain of HMACs over the request in one
//! canonical spelling, so that whoever has the secret key can check it without its being sent.
//!
//! ```text
//! canonical request = GET, path, sorted query, host, "host", UNSIGNED-PAYLOAD       one per line
//! string to sign    = algorithm, date, day/region/s3/aws4_request, SHA-256 of that
//! signing key       = HMAC(HMAC(HMAC(HMAC("AWS4" + secret, day), region), "s3"), "aws4_request")
//! ```
//! Amazon S3 API reference, "Authenticating requests: using query parameters (AWS Signature Version 4)".

use super::profile::Credentials;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What is signed.
pub(super) struct Request<'a> {
    /// As in the `Host` header: with the port, unless it is the scheme's own.
    pub(super) host: &'a str,
    /// Encoded by [`encode_path`], with its first slash.
    pub(super) path: &'a str,
    /// Further parameters of the query, in plain text.
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) region: &'a str,
    /// `20130524T000000Z`.
    pub(super) date: &'a str,
    /// How long the link is good, in seconds; a week at most.
    pub(super) expires: u64,
}

/// The query of the presigned URL, without its `?`.
pub(super) fn presign(request: &Request<'_>, credentials: &Credentials) -> String {
    let day = request.date.get(..8).unwrap_or(request.date);
    let scope = format!("{day}/{}/s3/aws4_request", request.region);
    let mut query: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: &str| query.push((encode(name, false), encode(value, false)));
    add("X-Amz-Algorithm", ALGORITHM);
    add("X-Amz-Credential", &format!("{}/{scope}", credentials.id));
    add("X-Amz-Date", request.date);
    add("X-Amz-Expires", &request.expires.to_string());
    if let Some(token) = &credentials.token {
        add("X-Amz-Security-Token", token);
    }
    add("X-Amz-SignedHeaders", "host");
    for (name, value) in request.query {
        add(name, value);
    }
    // By the bytes of the encoded names.
    query.sort();
    let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = query.join("&");
    let canonical =
        format!("GET\n{}\n{query}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", request.path, request.host);
    let hash = hex(&Sha256::digest(canonical.as_bytes()));
    let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{hash}", request.date);
    let mut key = format!("AWS4{}", credentials.secret).into_bytes();
    for part in [day, request.region, "s3", "aws4_request"] {
        key = mac(&key, part);
    }
    format!("{query}&X-Amz-Signature={}", hex(&mac(&key, &to_sign)))
}

/// The path of a key as it is sent and signed: everything but letters, digits, `-._~` and slashes percent-encoded, once.
pub(super) fn encode_path(key: &str) -> String {
    encode(key, true)
}

/// The parameters of a query without a signature.
pub(super) fn plain_query(query: &[(&str, &str)]) -> String {
    let each = query.iter().map(|(name, value)| format!("{}={}", encode(name, false), encode(value, false)));
    each.collect::<Vec<_>>().join("&")
}

fn encode(text: &str, slashes: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slashes && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(token: Option<&str>) -> Credentials {
        Credentials {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            token: token.map(str::to_owned),
        }
    }

    /// The example of the S3 API reference, "Authenticating requests: using query parameters".
    #[test]
    fn the_example_of_the_reference_has_its_signature() {
        let request = Request {
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: &[],
            region: "us-east-1",
            date: "20130524T000000Z",
            expires: 86400,
        };
        assert_eq!(
            presign(&request, &credentials(None)),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    /// The order of the parameters is that of their bytes: capitals first.
    #[test]
    fn other_parameters_are_sorted_among_those_of_the_signature() {
        let query = [("versionId", "a/b+c="), ("X-Other", "1")];
        let request = Request {
            host: "h:9000",
            path: "/b/k",
            query: &query,
            region: "eu-west-1",
            date: "20260101T000000Z",
            expires: 60,
        };
        let query = presign(&request, &credentials(Some("to/ken==")));
        let names: Vec<&str> = query.split('&').map(|part| part.split('=').next().unwrap()).collect();
        assert_eq!(
            names,
            [
                "X-Amz-Algorithm",
                "X-Amz-Credential",
                "X-Amz-Date",
                "X-Amz-Expires",
                "X-Amz-Security-Token",
                "X-Amz-SignedHeaders",
                "X-Other",
                "versionId",
                "X-Amz-Signature"
            ]
        );
        assert!(query.contains("&versionId=a%2Fb%2Bc%3D&") && query.contains("=to%2Fken%3D%3D&"));
    }

    #[test]
    fn keys_are_encoded_once_and_their_slashes_stay() {
        assert_eq!(encode_path("/a b//é%20+?#&~.img"), "/a%20b//%C3%A9%2520%2B%3F%23%26~.img");
    }
}
