import { messageSecrets } from '../plan/messages/message-settings.ts';
import type { Settings } from '../plan/settings.ts';

/** Returns the secret values. The caller registers them for redaction before anything is logged. */
export function secretValues(settings: Settings): string[] {
  const { messages, pgPassword, awsKey, keys, signingKeys } = settings;
  const all: (string | undefined)[] = [...messageSecrets(messages), pgPassword];
  all.push(awsKey?.accessKeyId, awsKey?.secretAccessKey, awsKey?.sessionToken, settings.customerKey);
  all.push(...(keys.ageIdentity?.split('\n') ?? []), keys.gpgPassphrase, keys.gpgPrivateKey);
  all.push(...(signingKeys ?? []), ...settings.pgCredentials.map(({ password }) => password));
  all.push(settings.http?.password, settings.http?.token);
  return all.filter((value) => value !== undefined);
}
