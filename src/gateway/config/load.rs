//! Reading the configuration: the file, then the command line over it.

use std::fmt;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::settings::{self, SETTINGS};
use super::{Config, Origin};

/// Why the configuration cannot be used: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads a file over the defaults.
    pub fn from_file(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError(format!("cannot read the configuration {}: {error}", path.display()))
        })?;
        let mut config = Config { file: Some(path.to_path_buf()), ..Config::default() };
        config.apply_text(&text)?;
        Ok(config)
    }

    /// Applies the text of a file.
    pub fn apply_text(&mut self, text: &str) -> Result<(), ConfigError> {
        let line_of = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let document = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(span.start));
            self.error_at(line, &first_line(error.message()))
        })?;
        for (section, value) in document.get_ref() {
            let line = line_of(section.span().start);
            let name: &str = section.get_ref();
            let Some(table) = value.get_ref().as_table() else {
                return Err(self.error_at(line, &unknown(name)));
            };
            if !SETTINGS.iter().any(|setting| setting.parts().0 == name) {
                return Err(self.error_at(line, &unknown_section(name)));
            }
            for (key, value) in table {
                let line = line_of(key.span().start);
                self.assign(&format!("{name}.{}", key.get_ref()), value.get_ref(), Origin::Line(line))
                    .map_err(|text| self.error_at(line, &text))?;
            }
        }
        Ok(())
    }

    /// Applies `key=value` of the command line; a value that is no TOML is taken as a string.
    pub fn apply_flag(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let text = DeValue::String(value.into());
        let outcome = match DeValue::parse(value) {
            Ok(parsed) => self
                .assign(key, parsed.get_ref(), Origin::Flag)
                .or_else(|error| self.assign(key, &text, Origin::Flag).map_err(|_| error)),
            Err(_) => self.assign(key, &text, Origin::Flag),
        };
        outcome.map_err(ConfigError)
    }

    fn assign(&mut self, key: &str, value: &DeValue<'_>, origin: Origin) -> Result<(), String> {
        let (index, setting) = settings::find(key).ok_or_else(|| unknown(key))?;
        if !(setting.read)(self, value) {
            return Err(format!("{key} needs {}", setting.kind));
        }
        if let Some(slot) = self.origins.get_mut(index) {
            *slot = origin;
        }
        Ok(())
    }

    fn error_at(&self, line: usize, what: &str) -> ConfigError {
        match &self.file {
            Some(file) => ConfigError(format!("{}:{line}: {what}", file.display())),
            None => ConfigError(format!("line {line}: {what}")),
        }
    }
}

fn unknown(key: &str) -> String {
    match settings::nearest(key) {
        Some(near) => format!("there is no key {key}; did you mean {near}?"),
        None => format!("there is no key {key}; `forebay config` prints them all"),
    }
}

fn unknown_section(name: &str) -> String {
    let mut names: Vec<&str> = SETTINGS.iter().map(|setting| setting.parts().0).collect();
    names.dedup();
    format!("there is no section [{name}]; there are [{}]", names.join("] ["))
}

fn first_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}
