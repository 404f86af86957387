import { createHmac, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { LifeboatError } from '../../base/errors.ts';
import { canonicalJson } from '../objects/manifest.ts';

/** What is signed. The kind is part of what is signed: a tombstone can never pass for a pin. */
type SignedKind = 'manifest' | 'tombstone' | 'pin';

/** `unchecked`: no key is set. `unsigned`: one is, and there is no signature. */
export type Verdict = 'signed' | 'unsigned' | 'unchecked';

const signature = z.strictObject({ algorithm: z.literal('hmac-sha256'), keyId: z.string(), value: z.string() });

/** Beside the fields of a document: by which key it was signed, and how. */
type Signature = z.infer<typeof signature>;

interface Key {
  id: string;
  secret: string;
}

/**
 * Signs the documents of one repository and tells whether they are what was signed. The first key signs; all of them
 * verify, so that a key can be changed. Without any key nothing is signed and nothing is looked at.
 */
export class Signing {
  readonly #keys: Key[];
  readonly #repository: string;

  /** `repository` is the id in lifeboat.json: a document that is moved to another repository is not right there. */
  constructor(repository: string, secrets: readonly string[] = []) {
    this.#repository = repository;
    this.#keys = secrets.map((secret) => ({ id: keyId(secret), secret }));
  }

  /** Whether a key is set. */
  get active(): boolean {
    return this.#keys.length > 0;
  }

  /** The document with its signature; as it is when no key is set. */
  sign<T extends object>(kind: SignedKind, document: T): T & { signature?: Signature } {
    const [key] = this.#keys;
    if (!key) return document;
    const value = this.#code(key, kind, document).toString('hex');
    return { ...document, signature: { algorithm: 'hmac-sha256', keyId: key.id, value } };
  }

  /**
   * Looks at a document as it was read, with the fields that this version does not know. `name` is for people.
   *
   * @throws SIGNATURE_WRONG when it is not what was signed, or was signed elsewhere; SIGNATURE_KEY when none of the keys signed it
   */
  verify(kind: SignedKind, name: string, document: unknown): Verdict {
    if (!this.active) return 'unchecked';
    if (typeof document !== 'object' || document === null || !('signature' in document)) return 'unsigned';
    const { signature: given, ...signed } = document;
    const parsed = signature.safeParse(given);
    if (!parsed.success) throw wrong(name);
    const { keyId: id, value } = parsed.data;
    const key = this.#keys.find((one) => one.id === id);
    if (!key) {
      throw new LifeboatError('SIGNATURE_KEY', `${name} was signed with another key (${visibleId(id)})`, {
        hint: 'Add that key to LIFEBOAT_SIGNING_KEY as a further line: the first signs, all of them verify.',
      });
    }
    const expected = this.#code(key, kind, signed);
    const found = Buffer.from(value, 'hex');
    if (found.length !== expected.length || !timingSafeEqual(found, expected)) throw wrong(name);
    return 'signed';
  }

  #code({ secret }: Key, kind: SignedKind, document: object): Buffer {
    const signed = canonicalJson({ signs: kind, repository: this.#repository, document });
    return createHmac('sha256', secret).update(signed).digest();
  }
}

/** {@link Signing.verify} of a small document's text, which must be of that snapshot: the error instead of throwing it. */
export function verdictOf(
  signing: Signing,
  kind: SignedKind,
  text: string,
  place: { id: string; project: string },
): Verdict | LifeboatError {
  const name = `the ${kind} of ${place.id}`;
  try {
    const document: unknown = JSON.parse(text);
    const verdict = signing.verify(kind, name, document);
    const at = z.object({ id: z.literal(place.id), project: z.literal(place.project) }).safeParse(document);
    return verdict === 'signed' && !at.success ? wrong(name) : verdict;
  } catch (error) {
    return error instanceof LifeboatError ? error : new LifeboatError('OBJECT_DAMAGED', `${name} cannot be read`);
  }
}

/** What a document lacks that was not signed although a key is set. */
export function unsigned(name: string): LifeboatError {
  return new LifeboatError('SIGNATURE_MISSING', `${name} is not signed`, {
    hint: 'It may be forged. If it is from before LIFEBOAT_SIGNING_KEY was set and you trust who could write to the destination since, say --unsigned.',
  });
}

function wrong(name: string): LifeboatError {
  return new LifeboatError('SIGNATURE_WRONG', `${name} is not what was signed`, {
    hint: 'It was changed, or brought from another repository: use another snapshot, or another copy of the backups, and find out who could write there.',
  });
}

/** Tells keys apart without telling anything of them. */
function keyId(secret: string): string {
  return createHmac('sha256', secret).update('lifeboat signing key').digest('hex').slice(0, 8);
}

function visibleId(id: string): string {
  return /^[0-9a-f]{1,16}$/.test(id) ? id : 'of an unknown form';
}
