/** Names of variables whose values are usually secret. */
const SECRET = /pass|secret|token|key|credential|auth|dsn|ur[il]|conn/i;
/** Shorter values occur by chance. */
const MIN_LENGTH = 6;

/**
 * Returns a function that hides the secrets of an application in what it says: the values of variables that are likely
 * secrets, and the passwords in addresses.
 *
 * @param env variables of the application's container
 */
export function hidingSecrets(env: Readonly<Record<string, string>>): (text: string) => string {
  const found = Object.entries(env).flatMap(([name, value]) => [
    ...(SECRET.test(name) ? [value] : []),
    ...passwordsOf(value),
  ]);
  // Longest first: one that contains another is hidden as a whole.
  const hidden = [...new Set(found)].filter((one) => one.length >= MIN_LENGTH).sort((a, b) => b.length - a.length);
  return (text) => hidden.reduce((said, one) => said.replaceAll(one, '[redacted]'), text);
}

function passwordsOf(value: string): string[] {
  if (!URL.canParse(value)) return [];
  const { password } = new URL(value);
  if (password === '') return [];
  try {
    return [password, decodeURIComponent(password)];
  } catch {
    return [password];
  }
}
