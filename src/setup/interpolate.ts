/** The longest text in which variables are replaced. Compose files of people are shorter by far. */
const MAX_LENGTH = 100_000;

/**
 * Replaces variables in a value of a Compose file: `$A`, `${A}`, `${A:-default}`, `${A-default}`, `${A:+other}`,
 * `${A:?message}`, also nested, and `$$` for a dollar sign (Compose specification, "Interpolation"). A variable that is
 * not set is empty.
 */
export function interpolate(text: string, variables: Readonly<Record<string, string>>): string {
  if (text.length > MAX_LENGTH) return text;
  const dollars = text.split('$$');
  return dollars.map((part) => replaceVariables(part, variables)).join('$');
}

function replaceVariables(text: string, variables: Readonly<Record<string, string>>): string {
  const innermost = /\$\{([A-Za-z_]\w*)(?:(:?[-+?])((?:[^${}]|\$(?!\{))*))?\}/;
  let rest = text;
  // A value that itself looks like a variable is not replaced: it is masked until the end.
  const values: string[] = [];
  const mask = (value: string) => `\0${values.push(value) - 1}\0`;
  const replaceBare = (part: string) =>
    part.replace(/\$([A-Za-z_]\w*)/g, (_, name: string) => mask(lookUp(variables, name) ?? ''));
  const unmask = (value: string): string => value.replace(/\0(\d+)\0/g, (_, at: string) => values[Number(at)] ?? '');
  for (let match = innermost.exec(rest); match; match = innermost.exec(rest)) {
    const [whole, name = '', operator, word = ''] = match;
    const value = mask(resolveVariable(lookUp(variables, name), operator, unmask(replaceBare(word))));
    rest = rest.slice(0, match.index) + value + rest.slice(match.index + whole.length);
  }
  return unmask(replaceBare(rest));
}

function lookUp(variables: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(variables, name) ? variables[name] : undefined;
}

function resolveVariable(value: string | undefined, operator: string | undefined, word: string): string {
  const isSet = operator?.startsWith(':') ? Boolean(value) : value !== undefined;
  if (operator?.endsWith('+')) return isSet ? word : '';
  if (operator?.endsWith('-')) return isSet ? (value ?? '') : word;
  return value ?? '';
}
