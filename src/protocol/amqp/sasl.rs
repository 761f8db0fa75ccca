//! Who somebody is: the mechanisms PLAIN and AMQPLAIN over the users of the configuration.
//!
//! ```text
//! PLAIN      [authorization] NUL user NUL password
//! AMQPLAIN   a field table without its size: LOGIN, PASSWORD
//! ```
//! `guest` may only come from the machine the broker runs on, as RabbitMQ has it. Passwords are compared
//! in a time that does not depend on where they differ.

use super::codec::{Field, Table};

/// Somebody who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

/// The user that only this machine may be.
const LOCAL_USER: &str = "guest";

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login<'u> {
    /// It is this user.
    Accepted(&'u str),
    /// User and password do not go together.
    Refused,
    /// The user may not come from another machine.
    NotFromThere,
    /// There is no such mechanism.
    Unknown,
}

/// Judges a login.
pub fn login<'u>(users: &'u [User], mechanism: &str, response: &[u8], is_local: bool) -> Login<'u> {
    let credentials = match mechanism {
        "PLAIN" => plain(response),
        "AMQPLAIN" => amqplain(response),
        _ => return Login::Unknown,
    };
    let Some((name, password)) = credentials else { return Login::Refused };
    let user = users.iter().find(|user| user.name.as_bytes() == name);
    match user.filter(|user| is_equal(user.password.as_bytes(), password)) {
        None => Login::Refused,
        Some(user) if user.name == LOCAL_USER && !is_local => Login::NotFromThere,
        Some(user) => Login::Accepted(&user.name),
    }
}

/// Whether a secret is that of a user.
pub fn is_secret(users: &[User], name: &str, secret: &[u8]) -> bool {
    users.iter().any(|user| user.name == name && is_equal(user.password.as_bytes(), secret))
}

fn plain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = response.splitn(3, |&byte| byte == 0);
    parts.next()?;
    Some((parts.next()?, parts.next()?))
}

fn amqplain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let table = Table(response);
    let text = |name| table.get(name).filter(|field: &Field<'_>| field.kind == b'S').map(|field| field.bytes);
    table.is_sound().then_some(())?;
    Some((text("LOGIN")?, text("PASSWORD")?))
}

fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let differs = one.iter().zip(other).fold(0, |sum, (one, other)| sum | (one ^ other));
    one.len() == other.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Vec<User> {
        let user = |name: &str, password: &str| User { name: name.into(), password: password.into() };
        vec![user("guest", "guest"), user("line", "s3cret")]
    }

    #[test]
    fn plain_and_amqplain_tell_user_and_password() {
        let users = users();
        assert_eq!(login(&users, "PLAIN", b"\0line\0s3cret", false), Login::Accepted("line"));
        assert_eq!(login(&users, "PLAIN", b"x\0line\0s3cret", false), Login::Accepted("line"));
        let table = b"\x05LOGINS\0\0\0\x04line\x08PASSWORDS\0\0\0\x06s3cret";
        assert_eq!(login(&users, "AMQPLAIN", table, false), Login::Accepted("line"));
        assert_eq!(login(&users, "EXTERNAL", b"", true), Login::Unknown);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let users = users();
        for response in
            [&b""[..], b"\0line", b"\0line\0", b"\0line\0s3cre", b"\0line\0s3cret!", b"\0nobody\0x"]
        {
            assert_eq!(login(&users, "PLAIN", response, true), Login::Refused);
        }
        assert_eq!(login(&users, "AMQPLAIN", b"\x05LOGINS\0\0\0\xff", true), Login::Refused);
    }

    #[test]
    fn guest_comes_from_this_machine_only() {
        let users = users();
        assert_eq!(login(&users, "PLAIN", b"\0guest\0guest", true), Login::Accepted("guest"));
        assert_eq!(login(&users, "PLAIN", b"\0guest\0guest", false), Login::NotFromThere);
    }

    #[test]
    fn a_new_secret_has_to_be_the_right_one() {
        assert!(is_secret(&users(), "line", b"s3cret"));
        assert!(!is_secret(&users(), "line", b"guest"));
    }
}
