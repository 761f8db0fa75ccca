//! Printing the effective configuration as a file that reads back the same.

use super::settings::SETTINGS;
use super::{Config, Origin};

const WIDTH: usize = 96;

/// The configuration as commented TOML.
pub fn render(config: &Config) -> String {
    let mut out = String::from(
        "# Forebay's configuration as it is in effect. Every key may be left out.\n\
         # Use it with `forebay --config FILE`; a flag or `--set KEY=VALUE` goes before the file.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (own_section, name) = setting.parts();
        if own_section != section {
            section = own_section;
            out.push_str(&format!("\n[{section}]\n"));
        }
        for line in wrapped(setting.doc) {
            out.push_str(&format!("# {line}\n"));
        }
        let note = match config.origin(setting.key) {
            Origin::Default => String::new(),
            Origin::Line(line) => format!("  # from line {line}"),
            Origin::Flag => "  # from the command line".to_string(),
        };
        out.push_str(&format!("{name} = {}{note}\n", (setting.show)(config)));
    }
    out
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}
