import { expect, test } from 'vitest';
import { parseS3Location } from '../../src/plan/s3-location.ts';

test.each([
  ['s3://bucket', { bucket: 'bucket', prefix: '', pathStyle: false }],
  ['s3://bucket/', { bucket: 'bucket', prefix: '', pathStyle: false }],
  ['S3://bucket//a/b/?region=eu-west-1', { bucket: 'bucket', prefix: 'a/b/', region: 'eu-west-1', pathStyle: false }],
  [
    's3://bucket/a?endpoint=http://minio:9000/',
    { bucket: 'bucket', prefix: 'a/', endpoint: 'http://minio:9000', pathStyle: true },
  ],
  [
    's3://bucket?endpoint=https%3A%2F%2Fs3.example.org&path-style=no&storage-class=GLACIER',
    { bucket: 'bucket', prefix: '', endpoint: 'https://s3.example.org', storageClass: 'GLACIER', pathStyle: false },
  ],
])('%s', (text, location) => {
  expect(parseS3Location(text)).toEqual({ value: location });
});

test.each([
  ['sse=AES256', { encryption: 'AES256' }],
  ['sse=aws:kms&sse-kms-key=arn:aws:kms:eu-central-1:1:key/a-b', { kmsKey: 'arn:aws:kms:eu-central-1:1:key/a-b' }],
  ['sse=aws:kms:dsse&sse-kms-key=alias/backups', { encryption: 'aws:kms:dsse', kmsKey: 'alias/backups' }],
  ['sse=customer', { encryption: 'customer' }],
  ['acl=bucket-owner-full-control&requester-pays=true', { acl: 'bucket-owner-full-control', requesterPays: true }],
])('?%s', (options, expected) => {
  const parsed = parseS3Location(`s3://bucket/a?region=eu-west-1&${options}`);
  expect(parsed).toEqual({ value: expect.objectContaining(expected) });
});

test.each([
  ['sse=kms', 'has an sse that is none of'],
  ['sse-kms-key=a', 'has an sse-kms-key without sse=aws:kms'],
  ['sse=AES256&sse-kms-key=a', 'has an sse-kms-key without sse=aws:kms'],
  ['sse=customer&endpoint=http://minio:9000', 'has sse=customer with an endpoint that is not https'],
  ['acl=public-read', 'lets everybody read'],
  ['acl=authenticated-read', 'lets everybody read'],
  ['acl=full', 'has an acl that is none of'],
  ['requester-pays=perhaps', 'has a requester-pays that is neither'],
])('?%s is refused', (options, problem) => {
  expect(parseS3Location(`s3://bucket/a?${options}`)).toMatchObject({ problem: expect.stringContaining(problem) });
});
