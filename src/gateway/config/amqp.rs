//! AMQP in the configuration: what users may do.
//!
//! ```toml
//! [[amqp.permissions]]
//! user = "line-*"                     # the first entry that matches counts
//! configure = []                      # left out: everything
//! write = ["amq.topic"]
//! read = ["orders", "orders.*"]
//! ```

use toml::de::DeValue;

use super::field::{quoted, Field};
use crate::protocol::amqp::Permission;

impl Field for Vec<Permission> {
    const KIND: &'static str =
        "tables such as [{ user = \"line-*\", configure = [], write = [\"amq.topic\"], read = [\"orders.*\"] }]";

    fn read(value: &DeValue<'_>) -> Option<Vec<Permission>> {
        value.as_array()?.iter().map(|one| permission(one.get_ref())).collect()
    }

    fn show(&self) -> String {
        let all: Vec<String> = self.iter().map(shown).collect();
        format!("[{}]", all.join(", "))
    }
}

fn permission(value: &DeValue<'_>) -> Option<Permission> {
    let everything = || vec!["*".to_string()];
    let mut read =
        Permission { user: String::new(), configure: everything(), write: everything(), read: everything() };
    for (key, value) in value.as_table()? {
        let value = value.get_ref();
        match key.get_ref().as_ref() {
            "user" => read.user = value.as_str()?.to_string(),
            "configure" => read.configure = patterns(value)?,
            "write" => read.write = patterns(value)?,
            "read" => read.read = patterns(value)?,
            _ => return None,
        }
    }
    (!read.user.is_empty()).then_some(read)
}

fn patterns(value: &DeValue<'_>) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|one| one.get_ref().as_str().map(str::to_string)).collect()
}

fn shown(permission: &Permission) -> String {
    let list = |texts: &[String]| {
        let all: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        format!("[{}]", all.join(", "))
    };
    let Permission { user, configure, write, read } = permission;
    format!(
        "{{ user = {}, configure = {}, write = {}, read = {} }}",
        quoted(user),
        list(configure),
        list(write),
        list(read)
    )
}
