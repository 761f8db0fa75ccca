//! Frames field by field, as postcard lays them out.
//!
//! The encoding is postcard's, written out for what there is: the general serializer would be a fifth
//! of a leaf's code, and can panic. The tests hold every byte, and what is refused, to the crate itself.
//! Fields are in the order they stand in `frame`, and the readers here read them in that order.

use super::codec::Sealer;
use super::frame::{
    Again, Bytes, Code, Deliver, Frame, Hello, Nack, Open, Options, Pong, Publish, Subscribe, Verdict,
    Welcome,
};
use crate::fixed::Reader;

impl Frame<'_> {
    pub(super) fn write(&self, to: &mut Sealer<'_>) {
        match self {
            Frame::Hello(hello) => write_hello(hello, to),
            Frame::Welcome(welcome) => write_welcome(welcome, to),
            Frame::Error(code) => to.bytes(&[2, *code as u8]),
            Frame::Who => to.bytes(&[3]),
            Frame::Ping { token } => to.numbered(4, (*token).into()),
            Frame::Pong(pong) => {
                to.numbered(5, pong.token.into());
                to.number(pong.time_ms);
                to.number(pong.upto.into());
            }
            Frame::Credit { window } => to.numbered(6, (*window).into()),
            Frame::Open(open) => {
                to.bytes(&[7, open.lane]);
                to.number(open.epoch.into());
                to.number(open.settled);
            }
            Frame::Publish(publish) => write_publish(publish, to),
            Frame::Confirm { lane, upto } => {
                to.bytes(&[9, *lane]);
                to.number(*upto);
            }
            Frame::Again(again) => {
                to.bytes(&[10, again.lane]);
                to.number(again.upto);
                to.number(again.after_ms.into());
                write_code(again.code, to);
            }
            Frame::Reject { lane, sequence, code } => {
                to.bytes(&[11, *lane]);
                to.number(*sequence);
                to.bytes(&[*code as u8]);
            }
            Frame::Subscribe(subscribe) => write_subscribe(12, subscribe, to),
            Frame::Unsubscribe(subscribe) => write_subscribe(13, subscribe, to),
            Frame::Granted { request, refused } => {
                to.numbered(14, (*request).into());
                write_code(*refused, to);
            }
            Frame::Deliver(deliver) => write_deliver(deliver, to),
            Frame::Ack { upto } => to.numbered(16, (*upto).into()),
            Frame::Nack(nack) => {
                to.numbered(17, nack.upto.into());
                to.number(nack.seen.into());
                match nack.verdict {
                    Verdict::Again => to.bytes(&[0]),
                    Verdict::Delay(delay_ms) => to.numbered(1, delay_ms.into()),
                    Verdict::DeadLetter => to.bytes(&[2]),
                }
            }
        }
    }
}

fn write_hello(hello: &Hello<'_>, to: &mut Sealer<'_>) {
    to.bytes(&[0, hello.version]);
    to.number(hello.nonce.into());
    to.text(hello.device.as_bytes());
    to.text(hello.secret.0);
    to.number(hello.window.into());
    to.number(hello.max_frame.into());
    to.bytes(&[hello.clean.into()]);
    to.number(hello.keep_alive_s.into());
}

fn write_welcome(welcome: &Welcome, to: &mut Sealer<'_>) {
    to.bytes(&[1, welcome.version]);
    to.number(welcome.nonce.into());
    to.number(welcome.window.into());
    to.number(welcome.max_frame.into());
    to.number(welcome.time_ms);
    to.bytes(&[welcome.is_dated.into(), welcome.is_resumed.into()]);
}

fn write_publish(publish: &Publish<'_>, to: &mut Sealer<'_>) {
    to.bytes(&[8, publish.flags]);
    to.number(publish.sequence);
    to.number(publish.distance);
    to.signed(publish.time_ms);
    to.text(publish.topic.as_bytes());
    match &publish.options {
        None => to.bytes(&[0]),
        Some(options) => {
            to.numbered(1, options.ttl_ms.into());
            to.number(options.delay_ms.into());
            to.bytes(&[options.priority]);
        }
    }
    to.text(publish.body.0);
}

fn write_subscribe(number: u8, subscribe: &Subscribe<'_>, to: &mut Sealer<'_>) {
    to.numbered(number, subscribe.request.into());
    to.text(subscribe.pattern.as_bytes());
    to.bytes(&[subscribe.retained.into()]);
}

fn write_deliver(deliver: &Deliver<'_>, to: &mut Sealer<'_>) {
    to.numbered(15, deliver.number.into());
    to.number(deliver.distance.into());
    to.bytes(&[deliver.flags]);
    to.signed(deliver.time_ms);
    to.text(deliver.topic.as_bytes());
    to.text(deliver.body.0);
}

fn write_code(code: Option<Code>, to: &mut Sealer<'_>) {
    match code {
        None => to.bytes(&[0]),
        Some(code) => to.bytes(&[1, code as u8]),
    }
}

/// Reads one field after the other.
struct Fields<'f>(Reader<'f>);

impl<'f> Fields<'f> {
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn byte(&mut self) -> Option<u8> {
        self.0.byte()
    }

    /// A number of so many bits, in no more bytes than these need.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn number(&mut self, bits: u32) -> Option<u64> {
        let before = self.0.rest().len();
        let number = self.0.varint()?;
        let size = before.saturating_sub(self.0.rest().len()) as u32;
        let fits = bits == 64 || number >> bits == 0;
        (fits && size <= bits.div_ceil(7)).then_some(number)
    }

    fn short(&mut self) -> Option<u16> {
        self.number(16).map(|number| number as u16)
    }

    fn word(&mut self) -> Option<u32> {
        self.number(32).map(|number| number as u32)
    }

    fn long(&mut self) -> Option<u64> {
        self.number(64)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<Bytes<'f>> {
        let size = usize::try_from(self.word()?).ok()?;
        self.0.bytes(size).map(Bytes)
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn text(&mut self) -> Option<&'f str> {
        core::str::from_utf8(self.bytes()?.0).ok()
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.long()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn code(&mut self) -> Option<Code> {
        Code::ALL.get(self.word()? as usize).copied()
    }

    fn maybe_code(&mut self) -> Option<Option<Code>> {
        match self.flag()? {
            true => self.code().map(Some),
            false => Some(None),
        }
    }
}

/// The frame that begins these bytes; what follows it is of a later version, and ignored.
pub(super) fn read(bytes: &[u8]) -> Option<Frame<'_>> {
    let from = &mut Fields(Reader::new(bytes));
    Some(match from.word()? {
        0 => Frame::Hello(read_hello(from)?),
        1 => Frame::Welcome(read_welcome(from)?),
        2 => Frame::Error(from.code()?),
        3 => Frame::Who,
        4 => Frame::Ping { token: from.word()? },
        5 => Frame::Pong(Pong { token: from.word()?, time_ms: from.long()?, upto: from.word()? }),
        6 => Frame::Credit { window: from.short()? },
        7 => Frame::Open(Open { lane: from.byte()?, epoch: from.word()?, settled: from.long()? }),
        8 => Frame::Publish(read_publish(from)?),
        9 => Frame::Confirm { lane: from.byte()?, upto: from.long()? },
        10 => Frame::Again(Again {
            lane: from.byte()?,
            upto: from.long()?,
            after_ms: from.word()?,
            code: from.maybe_code()?,
        }),
        11 => Frame::Reject { lane: from.byte()?, sequence: from.long()?, code: from.code()? },
        12 => Frame::Subscribe(read_subscribe(from)?),
        13 => Frame::Unsubscribe(read_subscribe(from)?),
        14 => Frame::Granted { request: from.short()?, refused: from.maybe_code()? },
        15 => Frame::Deliver(read_deliver(from)?),
        16 => Frame::Ack { upto: from.word()? },
        17 => Frame::Nack(Nack { upto: from.word()?, seen: from.word()?, verdict: read_verdict(from)? }),
        _ => return None,
    })
}

fn read_hello<'f>(from: &mut Fields<'f>) -> Option<Hello<'f>> {
    Some(Hello {
        version: from.byte()?,
        nonce: from.word()?,
        device: from.text()?,
        secret: from.bytes()?,
        window: from.short()?,
        max_frame: from.short()?,
        clean: from.flag()?,
        keep_alive_s: from.short()?,
    })
}

fn read_welcome(from: &mut Fields<'_>) -> Option<Welcome> {
    Some(Welcome {
        version: from.byte()?,
        nonce: from.word()?,
        window: from.short()?,
        max_frame: from.short()?,
        time_ms: from.long()?,
        is_dated: from.flag()?,
        is_resumed: from.flag()?,
    })
}

fn read_publish<'f>(from: &mut Fields<'f>) -> Option<Publish<'f>> {
    Some(Publish {
        flags: from.byte()?,
        sequence: from.long()?,
        distance: from.long()?,
        time_ms: from.signed()?,
        topic: from.text()?,
        options: match from.flag()? {
            false => None,
            true => Some(Options { ttl_ms: from.word()?, delay_ms: from.word()?, priority: from.byte()? }),
        },
        body: from.bytes()?,
    })
}

fn read_subscribe<'f>(from: &mut Fields<'f>) -> Option<Subscribe<'f>> {
    Some(Subscribe { request: from.short()?, pattern: from.text()?, retained: from.flag()? })
}

fn read_deliver<'f>(from: &mut Fields<'f>) -> Option<Deliver<'f>> {
    Some(Deliver {
        number: from.word()?,
        distance: from.word()?,
        flags: from.byte()?,
        time_ms: from.signed()?,
        topic: from.text()?,
        body: from.bytes()?,
    })
}

fn read_verdict(from: &mut Fields<'_>) -> Option<Verdict> {
    Some(match from.word()? {
        0 => Verdict::Again,
        1 => Verdict::Delay(from.word()?),
        2 => Verdict::DeadLetter,
        _ => return None,
    })
}
