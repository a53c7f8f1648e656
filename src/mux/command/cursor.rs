//! A position among the tokens of a statement, and the terminals of the grammar that can be taken from there.

use super::Command;
use crate::mux::lexer::{Kind, Token, Tokens};
use crate::mux::value::{self, Name};

/// To look ahead, clone it.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    tokens: Tokens<'a>,
    standard_conforming_strings: bool,
}

impl<'a> Iterator for Cursor<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.tokens.next()
    }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(statement: &'a [u8], standard_conforming_strings: bool) -> Self {
        Self {
            tokens: Tokens::new(statement, standard_conforming_strings),
            standard_conforming_strings,
        }
    }

    /// Takes a keyword that must be there.
    pub(super) fn keyword(&mut self, keyword: &str) -> Option<()> {
        self.accept(keyword).then_some(())
    }

    /// Takes a keyword if it is there.
    pub(super) fn accept(&mut self, keyword: &str) -> bool {
        self.accept_if(|token| token.is_word(keyword))
    }

    pub(super) fn accept_symbol(&mut self, symbol: &str) -> bool {
        self.accept_if(|token| token.is_symbol(symbol))
    }

    /// Takes a symbol that must be there.
    pub(super) fn symbol(&mut self, symbol: &str) -> Option<()> {
        self.accept_symbol(symbol).then_some(())
    }

    pub(super) fn is_at_symbol(&self, symbol: &str) -> bool {
        self.clone().accept_symbol(symbol)
    }

    /// Whether the word that was taken last is the name of a setting, or the first part of it.
    pub(super) fn is_at_assignment(&self) -> bool {
        self.peek().is_some_and(|token| {
            ["=", "."].iter().any(|symbol| token.is_symbol(symbol))
                || token.is_one_of(&["TO", "FROM"])
        })
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.peek().is_none()
    }

    /// The command, if nothing follows it.
    pub(super) fn end(&self, command: Command) -> Option<Command> {
        self.is_at_end().then_some(command)
    }

    /// Takes a `ColId`.
    pub(super) fn name(&mut self) -> Option<Name> {
        let token = self.next()?;
        if token.kind == Kind::QuotedIdentifier && value::takes_unicode_escapes(&token) {
            return Name::of_unicode(&token, self.opt_uescape()?);
        }
        Name::of(&token)
    }

    pub(super) fn qualified_name(&mut self) -> Option<()> {
        self.name()?;
        while self.accept_symbol(".") {
            self.next()?;
        }
        Some(())
    }

    /// Takes a `var_name`. Settings are found without regard to case, quoted or not.
    pub(super) fn setting(&mut self) -> Option<String> {
        let mut setting = self.name()?.to_string();
        while self.accept_symbol(".") {
            setting = format!("{setting}.{}", self.name()?);
        }
        Some(setting.to_ascii_lowercase())
    }

    /// Takes an `Sconst`, and returns its content.
    pub(super) fn string(&mut self) -> Option<Vec<u8>> {
        let token = self.next()?;
        if token.kind == Kind::String && value::takes_unicode_escapes(&token) {
            let escape = self.opt_uescape()?;
            return value::unicode_string(&token, escape)
                .filter(|_| self.standard_conforming_strings);
        }
        value::string(&token, self.standard_conforming_strings)
    }

    /// Takes a `var_value`, which a single word may be as well, and returns its content.
    pub(super) fn literal(&mut self) -> Option<Vec<u8>> {
        let negative = self.accept_symbol("-");
        let signed = negative || self.accept_symbol("+");
        let token = self.peek()?;
        match token.kind {
            Kind::Number => {
                self.next();
                let sign: &[u8] = if negative { b"-" } else { b"" };
                Some([sign, token.text].concat())
            }
            _ if signed => None,
            Kind::String => self.string(),
            Kind::Word if token.is_one_of(&["TRUE", "FALSE", "ON"]) => {
                self.next();
                Some(token.text.to_ascii_lowercase())
            }
            Kind::Word | Kind::QuotedIdentifier => Some(self.name()?.as_bytes().to_vec()),
            _ => None,
        }
    }

    /// Takes `$1` if it is there, and returns its number.
    pub(super) fn parameter(&mut self) -> Option<usize> {
        let token = self.peek().filter(|token| token.kind == Kind::Parameter)?;
        self.next();
        std::str::from_utf8(&token.text[1..]).ok()?.parse().ok()
    }

    /// Takes what stands in parentheses, together with them, if anything does.
    pub(super) fn skip_parentheses(&mut self) {
        let mut depth = 0_usize;
        while depth > 0 || self.is_at_symbol("(") {
            match self.next() {
                Some(token) if token.is_symbol("(") => depth += 1,
                Some(token) if token.is_symbol(")") => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    fn opt_uescape(&mut self) -> Option<u8> {
        if !self.accept("UESCAPE") {
            return Some(b'\\');
        }
        let token = self.next()?;
        match value::string(&token, self.standard_conforming_strings)?.as_slice() {
            [escape] if !escape.is_ascii_hexdigit() && !b"+'\" \t\n\r\x0b\x0c".contains(escape) => {
                Some(*escape)
            }
            _ => None,
        }
    }

    fn accept_if(&mut self, is_wanted: impl Fn(&Token<'_>) -> bool) -> bool {
        let mut ahead = self.clone();
        let accepted = ahead.next().is_some_and(|token| is_wanted(&token));
        if accepted {
            *self = ahead;
        }
        accepted
    }

    /// How far into the statement the tokens go that were taken.
    pub(super) fn at(&self) -> usize {
        self.tokens.at()
    }

    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.clone().next()
    }
}
