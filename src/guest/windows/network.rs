//! How the network's interfaces get their addresses, and what their connections are called.
//!
//! ```text
//!   HKLM\SYSTEM\CurrentControlSet
//!     Services\Tcpip\Parameters\Interfaces\{GUID}          EnableDHCP, IPAddress, NameServer
//!     Control\Network\{4D36E972-…}\{GUID}\Connection       Name: what people call it; PnpInstanceID: its device
//! ```
//! An interface whose device is gone keeps both keys; another machine's card gets new ones, with DHCP.

use super::keys::{KeyAt, Keys, plain};
use crate::error::Result;
use crate::guest::{Evidence, Fact, Guest};

/// The class of network adapters.
const ADAPTERS: &str = "Control\\Network\\{4D36E972-E325-11CE-BFC1-08002BE10318}";
const INTERFACES: &str = "Services\\Tcpip\\Parameters\\Interfaces";

/// One interface that people see as a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `{4f2a…}`
    pub guid: String,
    /// `Ethernet`, `Local Area Connection`, `本地连接`.
    pub name: String,
    /// The device: `PCI\VEN_1AF4&DEV_1000…`. Empty where it is not known.
    pub device: String,
    /// Does it ask for its address?
    pub is_dhcp: bool,
    /// The addresses that it was given by hand.
    pub addresses: Vec<String>,
    /// Where its way to an address is written.
    pub evidence: Evidence,
    /// Where its name is written.
    pub named: Evidence,
}

/// The interfaces of a guest.
#[derive(Clone, Debug, Default)]
pub struct Interfaces(pub Vec<Interface>);

impl Fact for Interfaces {
    fn read(guest: &Guest) -> Result<Self> {
        let keys = Keys::of(guest)?;
        let mut found = Vec::new();
        let (Some(adapters), Some(interfaces)) = (keys.current(ADAPTERS)?, keys.current(INTERFACES)?) else {
            return Ok(Self::default());
        };
        for adapter in adapters.subkeys() {
            let adapter = adapter?;
            // Beside the adapters there is a key of descriptions.
            let Some(connection) = adapter.subkey("Connection")? else { continue };
            let Some(interface) = interfaces.subkey(&plain(adapter.name()))? else { continue };
            found.push(Interface::read(&connection, &interface)?);
        }
        Ok(Self(found))
    }
}

impl Interface {
    fn read(connection: &KeyAt, interface: &KeyAt) -> Result<Self> {
        let dhcp = interface.number("EnableDHCP")?;
        let addresses: Vec<String> = interface
            .texts("IPAddress")?
            .iter()
            .map(plain)
            .filter(|address| !address.is_empty() && address != "0.0.0.0")
            .collect();
        let evidence = match (dhcp, addresses.as_slice()) {
            (Some(0), [first, ..]) => interface.says("EnableDHCP = 0, IPAddress", first),
            (Some(number), _) => interface.says("EnableDHCP", number),
            (None, _) => interface.lacks("EnableDHCP"),
        };
        let name = plain(&connection.text("Name")?);
        Ok(Self {
            guid: plain(interface.name()),
            device: plain(&connection.text("PnpInstanceID")?),
            // One that nobody ever set up has no such value.
            is_dhcp: dhcp.map_or(addresses.is_empty(), |number| number != 0),
            addresses,
            evidence,
            named: connection.says("Name", &name),
            name,
        })
    }
}
