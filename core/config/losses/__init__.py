"""Settings of every loss. The formula of kind ``x`` stands in ``core/losses/x.py``.

To add a loss ``x``: write its settings in a file here, its ``formula`` in ``core/losses/x.py``, and add one line to the
list of imports below, which is the list of all losses. Forms, files, methods and contract tests read it.
"""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from core.config.losses.base import AlignmentSettings as AlignmentSettings
from core.config.losses.base import LossSettings as LossSettings
from core.config.losses.base import TokenLossSettings as TokenLossSettings

# isort: off
# All losses, in the order of forms and lists:
from core.config.losses.tokens import CrossEntropy as CrossEntropy
from core.config.losses.tokens import SoftLabels as SoftLabels
from core.config.losses.tokens import Dkd as Dkd
from core.config.losses.tokens import StandardisedLogits as StandardisedLogits
from core.config.losses.tokens import SphericalLogits as SphericalLogits
from core.config.losses.tokens import Taid as Taid
from core.config.losses.tokens import FisherRao as FisherRao
from core.config.losses.points import Geodesic as Geodesic
from core.config.losses.points import Cosine as Cosine
from core.config.losses.points import Mse as Mse
from core.config.losses.points import Hint as Hint
from core.config.losses.points import Curve as Curve
from core.config.losses.points import InfoNce as InfoNce
from core.config.losses.points import AttentionTransfer as AttentionTransfer
from core.config.losses.relations import Rkd as Rkd
from core.config.losses.relations import SimilarityPreserving as SimilarityPreserving
from core.config.losses.relations import Cka as Cka
from core.config.losses.relations import Procrustes as Procrustes
from core.config.losses.relations import Gram as Gram
from core.config.losses.points import ProjectionOnly as ProjectionOnly
# isort: on

LOSSES: tuple[type[LossSettings], ...] = tuple(
    each
    for each in list(vars().values())
    if isinstance(each, type) and issubclass(each, LossSettings) and "kind" in each.model_fields
)

if TYPE_CHECKING:
    Loss = LossSettings
else:
    Loss = Annotated[reduce(or_, LOSSES), Field(discriminator="kind")]
