import { expect, test } from 'vitest';
import { hidingSecrets } from '../../src/drill/app-secrets.ts';

test('what a smoke test says holds no secret of the application', () => {
  const hide = hidingSecrets({
    DB_PASSWORD: 'correct-horse',
    SENDER: 'smtp://mailer:b%40ttery@mail:25',
    SECRET_KEY_BASE: '0123456789',
    NODE_ENV: 'production',
    API_KEY: 'x',
  });
  expect(hide('no connection as app:correct-horse, key 0123456789, in production, x')).toBe(
    'no connection as app:[redacted], key [redacted], in production, x',
  );
  expect(hide('b@ttery and smtp://mailer:b%40ttery@mail:25')).toBe('[redacted] and smtp://mailer:[redacted]@mail:25');
});
