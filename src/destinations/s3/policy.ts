/** What a policy is made for. */
export interface PolicyWish {
  bucket: string;
  /** empty, or ending in a slash */
  prefix: string;
  /** nothing can be deleted with it */
  appendOnly?: boolean;
  /** days for which what is stored is locked: it may be prolonged that far, and no further */
  lockDays?: number;
  /** the user it is for, in the policy of a bucket; absent: it is to be attached to a user */
  principal?: string;
}

/** How far ahead locks are prolonged, as a share of their length: then not each run has to prolong each. */
export const PROLONGED = 1.25;

/** A policy as AWS and those who follow it understand it. */
interface Policy {
  Version: '2012-10-17';
  Statement: object[];
}

/**
 * The least that the agent's key has to be allowed: what its requests take, below its prefix, and nothing else. It can make no
 * change to the bucket, and delete no version of an object, so that with versioning all that it does can be undone.
 */
export function agentPolicy({ bucket, prefix, appendOnly, lockDays, principal }: PolicyWish): Policy {
  const who = principal === undefined ? {} : { Principal: { AWS: [principal] } };
  const objects = `arn:aws:s3:::${bucket}/${prefix}*`;
  const allow = (Sid: string, Action: string[], Resource: string) => ({
    ...{ Sid, Effect: 'Allow', ...who, Action, Resource },
  });
  return {
    Version: '2012-10-17',
    Statement: [
      allow(
        'LifeboatBucket',
        [
          's3:ListBucket',
          's3:ListBucketMultipartUploads',
          's3:GetLifecycleConfiguration',
          's3:GetBucketObjectLockConfiguration',
        ],
        `arn:aws:s3:::${bucket}`,
      ),
      allow(
        'LifeboatObjects',
        [
          's3:PutObject',
          's3:GetObject',
          's3:AbortMultipartUpload',
          's3:ListMultipartUploadParts',
          ...(appendOnly ? [] : ['s3:DeleteObject']),
        ],
        objects,
      ),
      ...(lockDays === undefined
        ? []
        : [
            allow('LifeboatLocksSeen', ['s3:GetObjectRetention'], objects),
            {
              ...allow('LifeboatLocks', ['s3:PutObjectRetention'], objects),
              // Without it a thief of the key could lock objects for a hundred years, which somebody has to pay for.
              Condition: {
                NumericLessThanEquals: {
                  's3:object-lock-remaining-retention-days': String(Math.ceil(lockDays * PROLONGED)),
                },
              },
            },
          ]),
    ],
  };
}
