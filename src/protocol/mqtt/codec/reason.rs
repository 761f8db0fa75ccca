//! Reason codes of version 5 (2.4) and the CONNACK return codes of 3.1.1 (its 3.2.2.3).
//!
//! One table names every code and the packets it may stand in, so that decoder and encoder
//! refuse the same ones. A code below 0x80 is a success. Inside the house only [`Reason`] is
//! used; a 3.1.1 CONNACK is translated at the wire by [`Reason::connect_return`].

use super::header::PacketType;

const CONNACK: u16 = PacketType::ConnAck.bit();
const PUBACK: u16 = PacketType::PubAck.bit() | PacketType::PubRec.bit();
const PUBREL: u16 = PacketType::PubRel.bit() | PacketType::PubComp.bit();
const SUBACK: u16 = PacketType::SubAck.bit();
const UNSUBACK: u16 = PacketType::UnsubAck.bit();
const DISCONNECT: u16 = PacketType::Disconnect.bit();
const AUTH: u16 = PacketType::Auth.bit();

/// Declares the codes with the packets each may stand in.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal in $packets:expr;)*) => {
        /// Why something was done, or was not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name = $code,)*
        }

        impl Reason {
            /// The reason with this code.
            pub const fn from_code(code: u8) -> Option<Reason> {
                match code {
                    $($code => Some(Reason::$name),)*
                    _ => None,
                }
            }

            const fn packets(self) -> u16 {
                match self {
                    $(Reason::$name => $packets,)*
                }
            }
        }
    };
}

reasons! {
    /// Success; QoS 0 granted; normal disconnection.
    Success = 0x00 in CONNACK | PUBACK | PUBREL | SUBACK | UNSUBACK | DISCONNECT | AUTH;
    /// QoS 1 granted.
    GrantedQos1 = 0x01 in SUBACK;
    /// QoS 2 granted.
    GrantedQos2 = 0x02 in SUBACK;
    /// The client leaves and wants its will published.
    DisconnectWithWill = 0x04 in DISCONNECT;
    /// Accepted, and nobody subscribes to it.
    NoMatchingSubscribers = 0x10 in PUBACK;
    /// There was no such subscription to end.
    NoSubscriptionExisted = 0x11 in UNSUBACK;
    /// The next step of an authentication.
    ContinueAuthentication = 0x18 in AUTH;
    /// A new authentication begins.
    Reauthenticate = 0x19 in AUTH;
    /// No other code fits, or none is to be told.
    Unspecified = 0x80 in CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT;
    /// A packet cannot be read.
    MalformedPacket = 0x81 in CONNACK | DISCONNECT;
    /// A packet can be read and breaks the protocol.
    ProtocolError = 0x82 in CONNACK | DISCONNECT;
    /// Valid, but not accepted here.
    ImplementationSpecific = 0x83 in CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT;
    /// The protocol level is not spoken here.
    UnsupportedProtocolVersion = 0x84 in CONNACK;
    /// The client identifier is not accepted.
    ClientIdNotValid = 0x85 in CONNACK;
    /// User name or password is wrong.
    BadUserNameOrPassword = 0x86 in CONNACK;
    /// Not permitted.
    NotAuthorized = 0x87 in CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT;
    /// The server is not available.
    ServerUnavailable = 0x88 in CONNACK;
    /// The server is busy; try later.
    ServerBusy = 0x89 in CONNACK | DISCONNECT;
    /// The client is banned.
    Banned = 0x8A in CONNACK;
    /// The server goes down.
    ServerShuttingDown = 0x8B in DISCONNECT;
    /// The authentication method is unknown, or not the one in use.
    BadAuthenticationMethod = 0x8C in CONNACK | DISCONNECT;
    /// Nothing came for one and a half times the keep alive.
    KeepAliveTimeout = 0x8D in DISCONNECT;
    /// Another connection uses the client identifier.
    SessionTakenOver = 0x8E in DISCONNECT;
    /// The filter is well-formed and not accepted.
    TopicFilterInvalid = 0x8F in SUBACK | UNSUBACK | DISCONNECT;
    /// The topic name is well-formed and not accepted.
    TopicNameInvalid = 0x90 in CONNACK | PUBACK | DISCONNECT;
    /// The packet identifier is in use already.
    PacketIdInUse = 0x91 in PUBACK | SUBACK | UNSUBACK;
    /// The packet identifier is not in use.
    PacketIdNotFound = 0x92 in PUBREL;
    /// More unacknowledged publishes than the receive maximum.
    ReceiveMaximumExceeded = 0x93 in DISCONNECT;
    /// The topic alias is 0 or over the maximum.
    TopicAliasInvalid = 0x94 in DISCONNECT;
    /// The packet is over the maximum size.
    PacketTooLarge = 0x95 in CONNACK | DISCONNECT;
    /// Data comes too fast.
    MessageRateTooHigh = 0x96 in DISCONNECT;
    /// A limit of the implementation or the administration is reached.
    QuotaExceeded = 0x97 in CONNACK | PUBACK | SUBACK | DISCONNECT;
    /// Closed by an administrator.
    AdministrativeAction = 0x98 in DISCONNECT;
    /// The payload is not of the format it claims.
    PayloadFormatInvalid = 0x99 in CONNACK | PUBACK | DISCONNECT;
    /// The server keeps no retained messages.
    RetainNotSupported = 0x9A in CONNACK | DISCONNECT;
    /// The QoS is over the server's maximum.
    QosNotSupported = 0x9B in CONNACK | DISCONNECT;
    /// Use another server for now.
    UseAnotherServer = 0x9C in CONNACK | DISCONNECT;
    /// Use another server from now on.
    ServerMoved = 0x9D in CONNACK | DISCONNECT;
    /// The server has no shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9E in SUBACK | DISCONNECT;
    /// Connections come too fast.
    ConnectionRateExceeded = 0x9F in CONNACK | DISCONNECT;
    /// The connection lasted as long as it may.
    MaximumConnectTime = 0xA0 in DISCONNECT;
    /// The server has no subscription identifiers.
    SubscriptionIdsNotSupported = 0xA1 in SUBACK | DISCONNECT;
    /// The server has no wildcard subscriptions.
    WildcardSubscriptionsNotSupported = 0xA2 in SUBACK | DISCONNECT;
}

impl Reason {
    /// The byte on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// It was not done.
    pub const fn is_failure(self) -> bool {
        self.code() >= 0x80
    }

    /// Packets of this type may carry it (2.4).
    pub const fn allowed_in(self, packet: PacketType) -> bool {
        self.packets() & packet.bit() != 0
    }

    /// The 3.1.1 return code that says it best; none where 3.1.1 closes without a CONNACK.
    pub const fn connect_return(self) -> Option<ConnectReturn> {
        match self {
            Reason::Success => Some(ConnectReturn::Accepted),
            Reason::UnsupportedProtocolVersion => Some(ConnectReturn::UnacceptableProtocolVersion),
            Reason::ClientIdNotValid => Some(ConnectReturn::IdentifierRejected),
            Reason::ServerUnavailable
            | Reason::ServerBusy
            | Reason::QuotaExceeded
            | Reason::UseAnotherServer
            | Reason::ServerMoved
            | Reason::ConnectionRateExceeded => Some(ConnectReturn::ServerUnavailable),
            Reason::BadUserNameOrPassword => Some(ConnectReturn::BadUserNameOrPassword),
            Reason::NotAuthorized | Reason::Banned => Some(ConnectReturn::NotAuthorized),
            _ => None,
        }
    }
}

/// Return codes of a 3.1.1 CONNACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnectReturn {
    /// Welcome.
    Accepted = 0,
    /// The protocol level is not spoken here.
    UnacceptableProtocolVersion = 1,
    /// The client identifier is not accepted.
    IdentifierRejected = 2,
    /// The server is not available.
    ServerUnavailable = 3,
    /// User name or password is wrong.
    BadUserNameOrPassword = 4,
    /// Not permitted.
    NotAuthorized = 5,
}

impl ConnectReturn {
    /// The return code with this number; 6 and more are reserved.
    pub const fn from_code(code: u8) -> Option<ConnectReturn> {
        match code {
            0 => Some(ConnectReturn::Accepted),
            1 => Some(ConnectReturn::UnacceptableProtocolVersion),
            2 => Some(ConnectReturn::IdentifierRejected),
            3 => Some(ConnectReturn::ServerUnavailable),
            4 => Some(ConnectReturn::BadUserNameOrPassword),
            5 => Some(ConnectReturn::NotAuthorized),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason that says the same; its `connect_return` is this code again.
    pub const fn reason(self) -> Reason {
        match self {
            ConnectReturn::Accepted => Reason::Success,
            ConnectReturn::UnacceptableProtocolVersion => Reason::UnsupportedProtocolVersion,
            ConnectReturn::IdentifierRejected => Reason::ClientIdNotValid,
            ConnectReturn::ServerUnavailable => Reason::ServerUnavailable,
            ConnectReturn::BadUserNameOrPassword => Reason::BadUserNameOrPassword,
            ConnectReturn::NotAuthorized => Reason::NotAuthorized,
        }
    }
}
