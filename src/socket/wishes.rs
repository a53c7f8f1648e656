//! What a client wants to be set from the start: the settings of its StartupMessage.

/// The settings of a StartupMessage, in the order in which the server would set them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// The text of `options`, as `PGOPTIONS` gives it.
    pub(super) options: String,
    /// By names in lower case, each once: the last counts.
    pub(super) settings: Vec<(String, String)>,
    /// Options that set nothing by its name, such as `-e`.
    pub(super) others: Vec<String>,
}

impl Wishes {
    pub(super) fn of(parameters: &[(String, String)]) -> Self {
        let mut wishes = Self::default();
        for (name, value) in parameters {
            if name == "options" {
                wishes.options.clone_from(value);
            }
        }
        let options = split(&wishes.options);
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let setting = match option.strip_prefix("-c") {
                Some("") => options.next().map(String::as_str),
                Some(setting) => Some(setting),
                None => option.strip_prefix("--"),
            };
            match setting.and_then(|setting| setting.split_once('=')) {
                Some((name, value)) => wishes.set(&name.replace('-', "_"), value),
                None => wishes.others.push(option.clone()),
            }
        }
        for (name, value) in parameters {
            let is_setting = !["user", "database", "options", "replication"].contains(&&name[..]);
            if is_setting && !name.starts_with("_pq_.") {
                wishes.set(name, value);
            }
        }
        wishes
    }

    fn set(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_owned()));
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        crate::mux::message::parameter(&self.settings, name)
    }

    /// Takes a setting out.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.settings.iter().position(|(known, _)| known == name)?;
        Some(self.settings.remove(index).1)
    }

    /// Whether all that is wished for is a name that the server takes as it is.
    pub(super) fn is_plain_name(&self) -> bool {
        let is_plain =
            |text: &str| text.len() < 64 && text.bytes().all(|byte| (32..127).contains(&byte));
        self.options.is_empty()
            && matches!(&self.settings[..], [(name, value)] if name == "application_name" && is_plain(value))
    }
}

/// Cuts options at white space, unless there is a backslash before, as the server does.
fn split(options: &str) -> Vec<String> {
    let is_space = |char: char| char.is_ascii_whitespace() || char == '\x0b';
    let mut all = Vec::new();
    let mut chars = options.chars().peekable();
    loop {
        while chars.next_if(|&char| is_space(char)).is_some() {}
        if chars.peek().is_none() {
            return all;
        }
        let mut option = String::new();
        while let Some(char) = chars.next_if(|&char| !is_space(char)) {
            match char {
                '\\' => option.extend(chars.next()),
                char => option.push(char),
            }
        }
        all.push(option);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(parameters: &[(&str, &str)]) -> Wishes {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Wishes::of(&parameters.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_come_before_what_is_given_by_its_name() {
        let wishes = wishes(&[
            ("user", "alice"),
            ("DateStyle", "German"),
            ("_pq_.later", "1"),
            (
                "options",
                " -c search_path=a,\\ b  --work-mem=1MB -cdatestyle=SQL -e -c",
            ),
        ]);
        let settings: Vec<_> = wishes
            .settings
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
            .collect();
        let expected = [
            ("search_path", "a, b"),
            ("work_mem", "1MB"),
            ("datestyle", "German"),
        ];
        assert_eq!(settings, expected);
        assert_eq!(wishes.others, ["-e", "-c"]);
    }

    #[test]
    fn a_name_alone_needs_no_trial() {
        assert!(wishes(&[("user", "alice"), ("application_name", "psql")]).is_plain_name());
        assert!(!wishes(&[("application_name", "\u{fc}bung")]).is_plain_name());
        assert!(!wishes(&[("application_name", "psql"), ("options", "-e")]).is_plain_name());
        assert!(!wishes(&[]).is_plain_name());
    }
}
