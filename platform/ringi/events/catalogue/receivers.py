"""Events of those who are told."""

from uuid import UUID

from ringi.events.catalogue.data import EventData, Explanation


class SubscriptionDisabled(EventData):
    """The platform gave up on a receiver; it is told to the project's other subscriptions."""

    NAME, TITLE = "subscription.disabled", "通知先が無効になりました"
    subscription: str
    subscription_id: UUID
    reason: Explanation


class SubscriptionTested(EventData):
    """A test call, sent to the subscription that was tested and to no other."""

    NAME, TITLE = "subscription.tested", "通知のテストです"
    subscription: str
    message: str
