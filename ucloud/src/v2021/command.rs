//! The command line and the environment of a job (protocol 9): pure functions of the application and the values given.
//!
//! The command line is an argument vector. Nothing splits, quotes or expands it, here or later.

use super::application::{ApplicationInvocation, InvocationParameter, VariableInvocation};
use super::arguments::Arguments;
use super::problem::{Problem, excerpt};
use super::value::{AppParameterValue, kind_of};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a whole command line, each argument counted with its terminator. Linux takes no single argument longer
/// than this.
pub const MOST_COMMAND_BYTES: usize = 128 * 1024;
/// Bytes of a whole environment, names and values counted with two bytes more each.
pub const MOST_ENVIRONMENT_BYTES: usize = 64 * 1024;
/// Variables of an environment. Each may refer to another, so that the work grows with the square.
pub const MOST_VARIABLES: usize = 1024;

const APPLICATION: &str = "status.resolvedApplication.invocation";

/// The argument vector of `app` for the values given. Problems: an element or parameter of an unknown kind, a value
/// that does not fit its parameter, a NUL byte, no argument at all, more than [`MOST_COMMAND_BYTES`].
pub fn command_line(
    app: &ApplicationInvocation,
    given: &BTreeMap<String, AppParameterValue>,
) -> Result<Vec<String>, Problem> {
    command_line_of(app, &Arguments::resolve(app, given)?)
}

/// The environment variables of `app` for the values given. Problems as for [`command_line`], and a variable's name
/// that is not `[A-Za-z_][A-Za-z0-9_]*`. An element that yields nothing leaves its variable unset.
pub fn environment(
    app: &ApplicationInvocation,
    given: &BTreeMap<String, AppParameterValue>,
) -> Result<BTreeMap<String, String>, Problem> {
    environment_of(app, &Arguments::resolve(app, given)?)
}

pub(crate) fn command_line_of(app: &ApplicationInvocation, arguments: &Arguments<'_>) -> Result<Vec<String>, Problem> {
    let mut pieces = Pieces::new(format!("{APPLICATION}.invocation"), MOST_COMMAND_BYTES, MOST_COMMAND_BYTES);
    for (index, element) in app.invocation.iter().enumerate() {
        pieces.take(element, arguments, || format!("{APPLICATION}.invocation[{index}]"))?;
    }
    match pieces.pieces.first() {
        Some(program) if !program.is_empty() => Ok(pieces.pieces),
        _ => Err(Problem::invalid(format!("{APPLICATION}.invocation: expected a command, found nothing to run"))),
    }
}

pub(crate) fn environment_of(
    app: &ApplicationInvocation,
    arguments: &Arguments<'_>,
) -> Result<BTreeMap<String, String>, Problem> {
    let Some(elements) = &app.environment else { return Ok(BTreeMap::new()) };
    if elements.len() > MOST_VARIABLES {
        let found = elements.len();
        return Err(Problem::invalid(format!(
            "{APPLICATION}.environment: expected at most {MOST_VARIABLES} variables, found {found}"
        )));
    }
    let mut variables = BTreeMap::new();
    let mut left = MOST_ENVIRONMENT_BYTES;
    for (name, element) in elements {
        let field = || format!("{APPLICATION}.environment.{}", excerpt(name, 80));
        if !is_variable_name(name) {
            return Err(Problem::invalid(format!("{}: expected a name like [A-Za-z_][A-Za-z0-9_]*", field())));
        }
        let Some(value) = variable(elements, name, element, arguments, left)? else { continue };
        left = left
            .checked_sub(name.len() + value.len() + 2)
            .ok_or_else(|| too_long(&format!("{APPLICATION}.environment"), MOST_ENVIRONMENT_BYTES))?;
        variables.insert(name.clone(), value);
    }
    Ok(variables)
}

/// The value of one variable. An `env` element stands for another variable of the same application; there is no engine
/// behind us that would expand `$(variable)`, so the chain is followed here. A variable that does not exist, is unset
/// or leads back to itself leaves the reference standing as text, as the reference provider's engine does.
fn variable(
    elements: &BTreeMap<String, InvocationParameter>,
    name: &str,
    element: &InvocationParameter,
    arguments: &Arguments<'_>,
    left: usize,
) -> Result<Option<String>, Problem> {
    let mut seen = BTreeSet::new();
    let (mut name, mut element) = (name, element);
    let mut unresolved = None;
    while let InvocationParameter::Env { variable } = element {
        unresolved.get_or_insert_with(|| format!("$({variable})"));
        if !seen.insert(name) {
            break;
        }
        match elements.get_key_value(variable) {
            Some((next, value)) => (name, element) = (next.as_str(), value),
            None => break,
        }
    }
    let mut pieces = Pieces::new(format!("{APPLICATION}.environment"), MOST_ENVIRONMENT_BYTES, left);
    if !matches!(element, InvocationParameter::Env { .. }) {
        pieces.take(element, arguments, || format!("{APPLICATION}.environment.{}", excerpt(name, 80)))?;
    }
    match (pieces.pieces.is_empty(), unresolved) {
        (false, _) => Ok(Some(pieces.pieces.join(" "))),
        (true, Some(reference)) => {
            without_nul(&reference, || format!("{APPLICATION}.environment.{}", excerpt(name, 80)))
                .map(|()| Some(reference))
        }
        (true, None) => Ok(None),
    }
}

fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What elements yield, within a bound: a few elements that name a long value many times must not fill the memory.
struct Pieces {
    pieces: Vec<String>,
    what: String,
    most: usize,
    left: usize,
}

impl Pieces {
    fn new(what: String, most: usize, left: usize) -> Self {
        Self { pieces: Vec::new(), what, most, left }
    }

    fn take(
        &mut self,
        element: &InvocationParameter,
        arguments: &Arguments<'_>,
        field: impl Fn() -> String,
    ) -> Result<(), Problem> {
        match element {
            InvocationParameter::Word { word } => self.push(word.clone(), &field),
            InvocationParameter::Env { .. } => Ok(()),
            InvocationParameter::BoolFlag { variable_name, flag } => match arguments.get(variable_name) {
                None => Ok(()),
                Some(argument) => match argument.boolean() {
                    Some(true) => self.push(flag.trim().to_owned(), &field),
                    Some(false) => Ok(()),
                    None => Err(Problem::invalid(format!(
                        "{}: expected parameter {:?} to be a boolean, found {:?}",
                        field(),
                        excerpt(variable_name, 80),
                        argument.kind(),
                    ))),
                },
            },
            InvocationParameter::Var(variables) => self.values(variables, arguments, &field),
            InvocationParameter::Other(value) => Err(Problem::invalid(format!(
                "{}: expected a complete word, env, bool_flag or var, found type {:?}",
                field(),
                excerpt(kind_of(value), 80),
            ))),
        }
    }

    fn values(
        &mut self,
        variables: &VariableInvocation,
        arguments: &Arguments<'_>,
        field: &impl Fn() -> String,
    ) -> Result<(), Problem> {
        let prefix = variables.prefix_variable.trim();
        let suffix = variables.suffix_variable.trim();
        let (joins_prefix, joins_suffix) =
            (variables.is_prefix_variable_part_of_arg, variables.is_suffix_variable_part_of_arg);
        let mut values = variables.variable_names.iter().filter_map(|name| arguments.get(name)).peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        self.push_if_any(variables.prefix_global.trim(), field)?;
        for value in values {
            let mut main = String::new();
            if joins_prefix {
                main.push_str(prefix);
            } else {
                self.push_if_any(prefix, field)?;
            }
            main.push_str(value.text()?);
            if joins_suffix {
                main.push_str(suffix);
            }
            self.push(main, field)?;
            if !joins_suffix {
                self.push_if_any(suffix, field)?;
            }
        }
        self.push_if_any(variables.suffix_global.trim(), field)
    }

    fn push_if_any(&mut self, affix: &str, field: &impl Fn() -> String) -> Result<(), Problem> {
        if affix.is_empty() { Ok(()) } else { self.push(affix.to_owned(), field) }
    }

    fn push(&mut self, piece: String, field: &impl Fn() -> String) -> Result<(), Problem> {
        without_nul(&piece, field)?;
        self.left = self.left.checked_sub(piece.len() + 1).ok_or_else(|| too_long(&self.what, self.most))?;
        self.pieces.push(piece);
        Ok(())
    }
}

/// The kernel ends an argument at the first NUL byte, so that the rest would vanish.
fn without_nul(piece: &str, field: impl Fn() -> String) -> Result<(), Problem> {
    if piece.contains('\0') {
        return Err(Problem::invalid(format!("{}: expected no NUL byte in an argument or variable", field())));
    }
    Ok(())
}

fn too_long(what: &str, most: usize) -> Problem {
    Problem::invalid(format!("{what}: expected at most {most} bytes in all"))
}
