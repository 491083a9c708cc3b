//! Through which channel a Windows was licensed: retail, volume, or by the maker of a machine (OEM). Keys are not read.
//!
//! ```text
//!   HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion
//!     DigitalProductId4   0x000  u32       its length, 0x4f8
//!                         0x118  u16[260]  edition
//!                         0x3f8  u16[64]   channel: Retail, OEM:DM, OEM:SLP, Volume:GVLK, Volume:MAK
//!     ProductId           00330-80000-…; 00426-OEM-… for a machine that was sold with it (up to 7)
//! ```

use super::keys::{Keys, plain};
use super::product::CURRENT_VERSION;
use crate::error::Result;
use crate::guest::{Evidence, Fact, Guest};
use crate::text::{Text, escape};

/// Where the channel begins, and the bytes that it has room for.
const CHANNEL: std::ops::Range<usize> = 0x3f8..0x478;

/// The channel of a guest.
#[derive(Clone, Debug, Default)]
pub struct License {
    /// `Retail`, `OEM:DM`, `Volume:GVLK`. Empty where it is not written.
    pub channel: String,
    /// Where that is written.
    pub evidence: Option<Evidence>,
}

impl Fact for License {
    fn read(guest: &Guest) -> Result<Self> {
        let Some(key) = Keys::of(guest)?.software(CURRENT_VERSION)? else { return Ok(Self::default()) };
        let channel = key.data("DigitalProductId4")?.map(|data| channel(&data)).unwrap_or_default();
        if !channel.is_empty() {
            let evidence = Some(key.says("channel in DigitalProductId4", &channel));
            return Ok(Self { channel, evidence });
        }
        if plain(&key.text("ProductId")?).split('-').nth(1) == Some("OEM") {
            return Ok(Self {
                channel: "OEM".to_owned(), evidence: Some(key.says("ProductId", "…-OEM-…"))
            });
        }
        Ok(Self { channel: String::new(), evidence: Some(key.lacks("DigitalProductId4 with a channel")) })
    }
}

impl License {
    /// Was it sold with a machine?
    #[must_use]
    pub fn is_oem(&self) -> bool {
        self.channel.to_ascii_uppercase().starts_with("OEM")
    }
}

fn channel(data: &[u8]) -> String {
    let units = data.get(CHANNEL).unwrap_or_default().chunks_exact(2);
    let units = units.map_while(|pair| <[u8; 2]>::try_from(pair).ok()).map(u16::from_le_bytes);
    let text: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    escape(Text::from(String::from_utf16_lossy(&text).as_str()).as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_stands_in_its_place() {
        let mut data = vec![0; 0x4f8];
        for (at, byte) in "OEM:DM".bytes().enumerate() {
            data[0x3f8 + at * 2] = byte;
        }
        assert_eq!(channel(&data), "OEM:DM");
        assert_eq!((channel(&data[..0x400]), channel(b"")), (String::new(), String::new()));
    }
}
