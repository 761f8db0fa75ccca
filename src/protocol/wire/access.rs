//! Which devices may come, and what each may publish and subscribe to.
//!
//! ```text
//! name "pump-*"      the first entry that matches a device's name counts; * at the end is anything
//! secret             what the device must know; none asks for nothing
//! publish, subscribe topic patterns in MQTT's spelling; %d in them is the device's name
//! ```
//! A table without entries lets every device do everything, as a listener that is bound to a trusted
//! line may. A subscription is allowed if all topics it matches are.

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name, or the beginning of its name and `*`.
    pub name: String,
    /// What it must know.
    pub secret: Option<String>,
    /// What it may publish.
    pub publish: Vec<String>,
    /// What it may subscribe to.
    pub subscribe: Vec<String>,
}

impl Device {
    fn is_named(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => self.name == name,
        }
    }
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Its entries; the first that matches counts.
    pub devices: Vec<Device>,
}

/// What one device may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl Access {
    /// What a device may do; none if it may not come.
    pub(super) fn admit(&self, name: &str, secret: &[u8]) -> Option<Rights> {
        if self.devices.is_empty() {
            let all = vec!["#".to_string()];
            return Some(Rights { publish: all.clone(), subscribe: all });
        }
        let device = self.devices.iter().find(|device| device.is_named(name))?;
        if !device.secret.as_ref().is_none_or(|wanted| is_same(wanted.as_bytes(), secret)) {
            return None;
        }
        let own = |patterns: &[String]| patterns.iter().map(|pattern| pattern.replace("%d", name)).collect();
        Some(Rights { publish: own(&device.publish), subscribe: own(&device.subscribe) })
    }
}

impl Rights {
    pub(super) fn may_publish(&self, topic: &str) -> bool {
        self.publish.iter().any(|allowed| covers(allowed, topic))
    }

    pub(super) fn may_subscribe(&self, pattern: &str) -> bool {
        self.subscribe.iter().any(|allowed| covers(allowed, pattern))
    }
}

/// Takes the same time wherever the two differ.
fn is_same(wanted: &[u8], given: &[u8]) -> bool {
    let differ = wanted.iter().zip(given).fold(0, |differ, (a, b)| differ | (a ^ b));
    wanted.len() == given.len() && differ == 0
}

/// Every topic that `pattern` matches is matched by `allowed` too.
fn covers(allowed: &str, pattern: &str) -> bool {
    let mut wanted = pattern.split('/');
    for level in allowed.split('/') {
        match (level, wanted.next()) {
            // `#` matches the level above it too.
            ("#", _) => return true,
            ("+", Some(level)) if level != "#" => {}
            (level, Some(other)) if level == other && level != "+" => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}

/// A topic that can be published to.
pub(super) fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && !topic.bytes().any(|byte| matches!(byte, 0 | b'+' | b'#'))
}

/// A topic pattern in MQTT's spelling.
pub(super) fn is_pattern(pattern: &str) -> bool {
    let count = pattern.split('/').count();
    let is_level = |(place, level): (usize, &str)| match level {
        "#" => place + 1 == count,
        "+" => true,
        _ => !level.bytes().any(|byte| matches!(byte, 0 | b'+' | b'#')),
    };
    !pattern.is_empty() && pattern.split('/').enumerate().all(is_level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_allowed_if_all_it_matches_is() {
        for (allowed, pattern) in
            [("#", "#"), ("a/#", "a/b/#"), ("a/#", "a"), ("a/+", "a/b"), ("a/+/c", "a/+/c"), ("a/b", "a/b")]
        {
            assert!(covers(allowed, pattern), "{allowed} {pattern}");
        }
        for (allowed, pattern) in [
            ("a/#", "#"),
            ("a/#", "+/b"),
            ("a/+", "a/#"),
            ("a/+", "a/b/c"),
            ("a/b", "a/+"),
            ("a/b", "a"),
            ("+", "a/b"),
        ] {
            assert!(!covers(allowed, pattern), "{allowed} {pattern}");
        }
    }

    #[test]
    fn a_device_has_the_rights_of_the_first_entry_with_its_name() {
        let device = |name: &str, secret: Option<&str>| Device {
            name: name.into(),
            secret: secret.map(Into::into),
            publish: vec!["plant/%d/#".into()],
            subscribe: vec![],
        };
        let access = Access { devices: vec![device("pump-1", Some("x")), device("pump-*", None)] };
        assert_eq!(access.admit("pump-1", b"y"), None);
        assert_eq!(access.admit("pump-1", b""), None);
        assert_eq!(access.admit("fan-1", b""), None);
        let rights = access.admit("pump-2", b"anything").unwrap();
        assert!(rights.may_publish("plant/pump-2/t") && !rights.may_publish("plant/pump-1/t"));
        assert!(!rights.may_subscribe("plant/pump-2/t"));
        assert!(access.admit("pump-1", b"x").is_some());
        assert!(Access::default().admit("anybody", b"").unwrap().may_subscribe("#"));
    }

    #[test]
    fn patterns_are_checked_as_mqtt_does() {
        assert!(["#", "+", "a/+/b", "a/#", "/"].into_iter().all(is_pattern));
        assert!(!["", "a#", "a/#/b", "a+", "a/b\0"].into_iter().any(is_pattern));
        assert!(is_topic("a/b") && !is_topic("a/#") && !is_topic(""));
    }
}
